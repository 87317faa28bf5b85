//! man/spawn-fcgi.1 against the tables of the program: neither may know an option or a quirk that the other does not.

use std::collections::BTreeSet;
use std::path::Path;

use fpmd::cli::spawn_fcgi::usage::OPTIONS;
use fpmd::spawn_fcgi::quirks::QUIRKS;

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/spawn-fcgi.1")).unwrap()
}

/// The text of one section.
fn section(name: &str) -> String {
    let page = page();
    let mut sections = page.split(".Sh ").filter_map(|section| section.split_once('\n'));
    sections.find(|(title, _)| *title == name).map(|(_, text)| text.to_owned()).unwrap_or_default()
}

#[test]
fn the_page_has_every_quirk_in_the_same_words() {
    let differences = section("DIFFERENCES");
    let listed: BTreeSet<&str> =
        differences.lines().filter_map(|line| line.strip_prefix(".It Sy ")).collect();
    assert_eq!(listed, QUIRKS.iter().map(|quirk| quirk.name).collect());
    for quirk in QUIRKS {
        for sentence in [quirk.original, quirk.ours, quirk.why] {
            assert!(
                differences.lines().any(|line| line == sentence),
                "{}: not in the page: {sentence}",
                quirk.name
            );
        }
    }
}

#[test]
fn the_page_has_every_option_with_its_argument() {
    let description = section("DESCRIPTION");
    let listed: BTreeSet<String> = description
        .lines()
        .filter_map(|line| line.strip_prefix(".It Fl "))
        .flat_map(|flags| flags.split(" , Fl "))
        .map(|flag| flag.replace("\\&", "").replace(" Ar ", " "))
        .collect();
    let known: BTreeSet<String> = OPTIONS
        .iter()
        .flat_map(|option| option.flag.split(", ").map(move |flag| (flag, option.argument)))
        .map(|(flag, argument)| {
            format!("{} {}", &flag[1..], argument.trim_matches(['<', '>'])).trim().to_owned()
        })
        .collect();
    assert_eq!(listed, known);
}
