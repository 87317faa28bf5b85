//! A table of text: columns as wide as their widest cell, cut where a line would leave the terminal. Colours are put
//! around a cell after its width is known, so that they never count.

/// What a cell says by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Nothing.
    Plain,
    /// Headings.
    Strong,
    /// All is well.
    Good,
    /// On its way to another state.
    Changing,
    /// Something failed.
    Bad,
}

impl Paint {
    /// The text between the escape sequences of this colour (ECMA-48, SGR).
    pub fn around(self, text: &str) -> String {
        let code = match self {
            Paint::Plain => return text.to_owned(),
            Paint::Strong => 1,
            Paint::Good => 32,
            Paint::Changing => 33,
            Paint::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column: its heading and its manners.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// Where its text stands.
    pub align: Align,
    /// The width that it may be cut down to, characters; `None` for what is useless if cut.
    pub least: Option<usize>,
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Harmless text of one line.
    pub text: String,
    /// Its colour.
    pub paint: Paint,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, paint: Paint::Plain }
    }
}

/// The lines of the table, headings in their colour first. `limit` is the terminal's width; `None` cuts nothing.
pub fn lines<const N: usize>(
    columns: &[Column; N],
    paint: Paint,
    rows: &[[Cell; N]],
    limit: Option<usize>,
) -> Vec<String> {
    let widths = widths(columns, rows, limit);
    let heading = columns.each_ref().map(|column| Cell { text: column.title.into(), paint });
    std::iter::once(&heading).chain(rows).map(|row| line(columns, row, &widths)).collect()
}

const GAP: usize = 2;

/// How wide each column is; 0 for the last one if it can be cut and there is no room even then.
fn widths<const N: usize>(columns: &[Column; N], rows: &[[Cell; N]], limit: Option<usize>) -> [usize; N] {
    let widest = |at: usize| rows.iter().map(|row| row[at].text.chars().count()).max().unwrap_or(0);
    let natural = std::array::from_fn(|at| widest(at).max(columns[at].title.len()));
    let (widths, excess) = fitted(columns, natural, limit);
    if excess == 0 || columns.last().is_none_or(|column| column.least.is_none()) {
        return widths;
    }
    let shown = |at: usize| if at + 1 == N { 0 } else { natural[at] };
    fitted(columns, std::array::from_fn(shown), limit).0
}

/// The same widths, cut as far as that can be done and has to be; and by how much they are still too wide.
fn fitted<const N: usize>(
    columns: &[Column; N],
    mut widths: [usize; N],
    limit: Option<usize>,
) -> ([usize; N], usize) {
    let gaps = widths.iter().filter(|width| **width > 0).count().saturating_sub(1);
    let total = widths.iter().sum::<usize>() + GAP * gaps;
    let mut excess = limit.map_or(0, |limit| total.saturating_sub(limit));
    // The last columns give way first: they hold what can be looked up elsewhere.
    for (width, column) in widths.iter_mut().zip(columns).rev() {
        let spare = column.least.map_or(0, |least| width.saturating_sub(least.max(column.title.len())));
        *width -= spare.min(excess);
        excess -= spare.min(excess);
    }
    (widths, excess)
}

fn line<const N: usize>(columns: &[Column; N], row: &[Cell; N], widths: &[usize; N]) -> String {
    let shown = columns.iter().zip(row).zip(widths).filter(|(_, width)| **width > 0);
    let cells = shown.map(|((column, cell), &width)| {
        let text = cut(&cell.text, width);
        let padding = " ".repeat(width - text.chars().count());
        let painted = cell.paint.around(&text);
        match column.align {
            Align::Left => painted + &padding,
            Align::Right => padding + &painted,
        }
    });
    let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
    line.trim_end_matches(' ').to_owned()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "NAME", align: Align::Left, least: Some(5) },
        Column { title: "N", align: Align::Right, least: None },
        Column { title: "PLACE", align: Align::Left, least: Some(6) },
    ];

    fn row(name: &str, number: u32, place: &str) -> [Cell; 3] {
        [name.to_owned().into(), number.to_string().into(), place.to_owned().into()]
    }

    fn plain(rows: &[[Cell; 3]], limit: Option<usize>) -> Vec<String> {
        lines(&COLUMNS, Paint::Plain, rows, limit)
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row("a", 1, "x"), row("long-name", 1000, "y")];
        let text = plain(&rows, None);
        assert_eq!(text, ["NAME          N  PLACE", "a             1  x", "long-name  1000  y"]);
    }

    #[test]
    fn what_is_too_wide_is_cut_from_the_right_and_stays_aligned() {
        let rows = [row("a-rather-long-name", 7, "/run/somewhere/far.sock"), row("b", 12, "c")];
        let text = plain(&rows, Some(30));
        assert_eq!(
            text,
            ["NAME                 N  PLACE", "a-rather-long-name   7  /run/…", "b                   12  c"]
        );
        let narrow = plain(&rows, Some(10));
        assert_eq!(narrow, ["NAME     N", "a-rat…   7", "b       12"], "no room for a place");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let mut rows = [row("a", 1, "x"), row("bb", 2, "y")];
        rows[0][0].paint = Paint::Good;
        let text = lines(&COLUMNS, Paint::Strong, &rows, None);
        assert_eq!(text[0], "\x1b[1mNAME\x1b[0m  \x1b[1mN\x1b[0m  \x1b[1mPLACE\x1b[0m");
        assert_eq!(text[1], "\x1b[32ma\x1b[0m     1  x");
        assert_eq!(text[2], "bb    2  y");
    }

    #[test]
    fn letters_count_not_bytes() {
        assert_eq!(cut("größe", 5), "größe");
        assert_eq!(cut("größen", 5), "größ…");
    }
}
