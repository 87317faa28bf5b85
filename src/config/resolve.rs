//! From a file with its includes to a valid `Config`, or to every mistake in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Cause, Error, Errors, Place};
use super::host::Host;
use super::keys::Section;
use super::listen::{self, Sockets};
use super::model::{Config, Dispatch, Global, ListenAddress, LogFormat, LogLevel, LogTarget, Pool};
use super::pool::{self, Context};
use super::source::Source;
use super::walk::{Item, Report, Table, type_name};
use super::{gateway, identity, include, nearest};
use crate::ids::PoolName;
use crate::policy::share::shortfall;
use crate::sorted::SortedMap;
use crate::wire::place;

/// Reads a configuration file and what it includes.
///
/// # Errors
/// Every mistake in them, in the order of files and places.
pub fn load(path: &Path, host: &dyn Host) -> Result<Config, Errors> {
    let name = path.to_string_lossy();
    match host.read(path) {
        Ok(text) => load_text(&name, &text, host),
        Err(cause) => {
            let place = Place { file: Arc::from(&*name), position: None };
            let cause = Cause::Unreadable(format!("cannot read the configuration: {cause}"));
            Err(Errors::one(Error { place, key: String::new(), cause }))
        }
    }
}

/// Reads a configuration that is there as text; `name` stands for the file in messages, and includes are relative
/// to its directory.
///
/// # Errors
/// Every mistake, in the order of files and places.
pub fn load_text(name: &str, text: &str, host: &dyn Host) -> Result<Config, Errors> {
    let mut report = Report::default();
    let main = Source::new(0, name, text.to_owned());
    let root = parse(&main, &mut report);
    let global_table = global_table(&main, root.as_ref(), &mut report);
    let included = include::sources(&mut report, &global_table, host);
    let others: Vec<_> = included.iter().map(|source| (source, parse(source, &mut report))).collect();

    let mut context = Context { host, report, sockets: Sockets::default(), runtime_dir: PathBuf::new() };
    let global = global(&mut context, &global_table);
    let mut pools = Pools::default();
    for (source, root) in
        std::iter::once((&main, root.as_ref())).chain(others.iter().map(|(s, r)| (*s, r.as_ref())))
    {
        let Some(root) = root else { continue };
        check_tables(&mut context.report, source, root, &main);
        pools.read(&mut context, source, root);
    }
    check_process_max(&mut context.report, &global_table, &global, &pools);
    let has_gateway = |pool: &Pool| matches!(pool.dispatch, Dispatch::Gateway(_));
    if pools.resolved.values().any(has_gateway) {
        gateway::check_user(&mut context.report, &global_table, global.gateway_user.as_ref(), host);
    }
    match context.report.finish() {
        Some(errors) => Err(errors),
        None => Ok(Config { global, pools: pools.resolved }),
    }
}

fn parse<'a>(source: &'a Source, report: &mut Report) -> Option<Spanned<DeTable<'a>>> {
    source
        .parse()
        .map_err(|errors| {
            for (offset, error) in errors {
                report.add_placed(source, offset, error);
            }
        })
        .ok()
}

/// `[global]`, or a table without entries where there is none.
fn global_table<'a>(
    main: &'a Source,
    root: Option<&'a Spanned<DeTable<'a>>>,
    report: &mut Report,
) -> Table<'a> {
    let mut table =
        Table { source: main, section: Section::Global, path: "global".to_owned(), offset: 0, entries: None };
    if let Some((name, value)) = root.and_then(|root| root.get_ref().get_key_value("global")) {
        table.offset = name.span().start;
        match value.get_ref() {
            DeValue::Table(entries) => table.entries = Some(entries),
            other => {
                let cause = Cause::Type { expected: "a table", found: type_name(other), hint: None };
                report.add(main, value.span().start, "global", cause);
            }
        }
    }
    table
}

/// Reports tables that a file cannot have: anything but `global` (in the main file) and `pool`.
fn check_tables(report: &mut Report, source: &Source, root: &Spanned<DeTable<'_>>, main: &Source) {
    for (name, value) in root.get_ref() {
        let text: &str = name.get_ref();
        let cause = match text {
            "pool" => continue,
            "global" if source.index == main.index => continue,
            "global" => Cause::Value(format!(
                "an included file has [pool.NAME] tables only; move this to {}",
                main.name
            )),
            _ => Cause::Unknown {
                what: if matches!(value.get_ref(), DeValue::Table(_)) { "table" } else { "setting" },
                hint: Some(outer_hint(text, value.get_ref())),
            },
        };
        report.add(source, name.span().start, text, cause);
    }
}

fn outer_hint(name: &str, value: &DeValue<'_>) -> String {
    match (nearest::nearest(name, ["global", "pool"]), value) {
        (Some(near), DeValue::Table(_)) => format!("did you mean [{near}]?"),
        (_, DeValue::Table(_)) => format!("a pool is written [pool.{name}]"),
        (_, _) => "settings are in [global], [pool.NAME] or [pool.NAME.pm]".to_owned(),
    }
}

/// The pools so far, and where each was named first.
#[derive(Default)]
struct Pools {
    resolved: SortedMap<PoolName, Pool>,
    named: Vec<(PoolName, Place)>,
}

impl Pools {
    /// Reads the pools of one file, in its order.
    fn read(&mut self, context: &mut Context<'_>, source: &Source, root: &Spanned<DeTable<'_>>) {
        let Some(value) = root.get_ref().get("pool") else { return };
        let DeValue::Table(pools) = value.get_ref() else {
            let hint = Some("a pool is written [pool.NAME]".to_owned());
            let cause = Cause::Type { expected: "a table of pools", found: type_name(value.get_ref()), hint };
            context.report.add(source, value.span().start, "pool", cause);
            return;
        };
        let mut ordered: Vec<_> = pools.iter().collect();
        ordered.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in ordered {
            let (offset, text) = (name.span().start, name.get_ref());
            let path = format!("pool.{}", text.escape_debug());
            let DeValue::Table(entries) = value.get_ref() else {
                let hint = Some("a pool is written [pool.NAME]".to_owned());
                let cause = Cause::Type { expected: "a table", found: type_name(value.get_ref()), hint };
                context.report.add(source, value.span().start, &path, cause);
                continue;
            };
            match PoolName::new(text) {
                Err(sentence) => context.report.add(source, offset, &path, Cause::Value(sentence)),
                Ok(name) => {
                    let table =
                        Table { source, section: Section::Pool, path, offset, entries: Some(entries) };
                    self.add(context, name, &table);
                }
            }
        }
    }

    fn add(&mut self, context: &mut Context<'_>, name: PoolName, table: &Table<'_>) {
        if let Some((_, first)) = self.named.iter().find(|(named, _)| *named == name) {
            let what = format!("there is a pool '{name}' already");
            let cause = Cause::Duplicate { what, first: first.clone() };
            context.report.add(table.source, table.offset, &table.path, cause);
            return;
        }
        self.named.push((name.clone(), table.source.place(table.offset)));
        if let Some(pool) = pool::resolve(context, &name, table) {
            self.resolved.insert(name, pool);
        }
    }
}

fn global(context: &mut Context<'_>, table: &Table<'_>) -> Global {
    let Context { host, report, .. } = context;
    table.check_names(report, &[]);
    let runtime_dir = table
        .optional(report, "runtime_dir", |report, item| item.path(report))
        .unwrap_or(host.default_runtime_dir());
    let parent_exists = |report: &mut Report, item: &Item<'_>| {
        let path = item.path(report)?;
        file_in_directory(report, item, path, &runtime_dir, *host)
    };
    let global = Global {
        pid_file: table.optional(report, "pid_file", parent_exists),
        log: table.value(report, "log", |report, item| log_target(report, item, &runtime_dir, *host)),
        log_level: table.value(report, "log_level", log_level),
        log_format: table.value(report, "log_format", log_format),
        control_socket: table
            .optional(report, "control_socket", parent_exists)
            .unwrap_or_else(|| place::control_socket(&runtime_dir)),
        control_group: table
            .optional(report, "control_group", |report, item| identity::group(report, item, *host)),
        gateway_user: gateway::user(report, table, *host),
        process_max: table.value(report, "process_max", |report, item| item.whole(report)),
        process_control_timeout: table
            .value(report, "process_control_timeout", |report, item| item.time(report)),
        reload_surge: table.value(report, "reload_surge", |report, item| item.whole(report)),
        runtime_dir,
    };
    claim_control_socket(context, table, &global);
    context.runtime_dir.clone_from(&global.runtime_dir);
    global
}

fn claim_control_socket(context: &mut Context<'_>, table: &Table<'_>, global: &Global) {
    let length = global.control_socket.as_os_str().len();
    let name = if table.given("control_socket").is_some() { "control_socket" } else { "runtime_dir" };
    if length > listen::LONGEST_UNIX {
        let sentence = format!(
            "the control socket '{}' has {length} bytes; a Unix socket has at most {}",
            global.control_socket.display(),
            listen::LONGEST_UNIX
        );
        table.fail(&mut context.report, name, Cause::Value(sentence));
    }
    let place = match table.given(name) {
        Some(item) => item.place(),
        None => table.source.whole(),
    };
    context.sockets.add(ListenAddress::Unix(global.control_socket.clone()), "fpmctl (control_socket)", place);
}

/// A path whose directory exists, or is the one that fpmd makes.
fn file_in_directory(
    report: &mut Report,
    item: &Item<'_>,
    path: PathBuf,
    runtime_dir: &Path,
    host: &dyn Host,
) -> Option<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
    if listen::normal(&parent).starts_with(runtime_dir) || host.is_directory(None, &parent) {
        return Some(path);
    }
    item.refuse(report, format!("there is no directory '{}' for it", parent.display()))
}

fn log_target(
    report: &mut Report,
    item: &Item<'_>,
    runtime_dir: &Path,
    host: &dyn Host,
) -> Option<LogTarget> {
    const WORDS: [&str; 4] = ["stderr", "stdout", "syslog", "journal"];
    let text = item.text(report)?;
    match text.as_str() {
        "stderr" => Some(LogTarget::Stderr),
        "stdout" => Some(LogTarget::Stdout),
        "syslog" => Some(LogTarget::Syslog),
        "journal" => Some(LogTarget::Journal),
        path if path.starts_with('/') => {
            file_in_directory(report, item, PathBuf::from(path), runtime_dir, host).map(LogTarget::File)
        }
        other => {
            let hint = nearest::nearest(other, WORDS)
                .map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
            item.refuse(
                report,
                format!("'{other}' is not one of {} or an absolute path{hint}", WORDS.join(", ")),
            )
        }
    }
}

fn log_level(report: &mut Report, item: &Item<'_>) -> Option<LogLevel> {
    let levels = [LogLevel::Alert, LogLevel::Error, LogLevel::Warning, LogLevel::Notice, LogLevel::Debug];
    let word = item.choice(report)?;
    levels.into_iter().find(|level| level.as_str() == word)
}

fn log_format(report: &mut Report, item: &Item<'_>) -> Option<LogFormat> {
    match item.choice(report)?.as_str() {
        "json" => Some(LogFormat::Json),
        _ => Some(LogFormat::Text),
    }
}

fn check_process_max(report: &mut Report, table: &Table<'_>, global: &Global, pools: &Pools) {
    let minima = pools.resolved.values().map(|pool| pool.pm.bounds(1, 1).reserved());
    let shortfall = shortfall(global.process_max, minima).filter(|_| global.process_max > 0);
    if let Some(missing) = shortfall {
        let sum = u64::from(global.process_max) + missing;
        let sentence = format!(
            "{} is less than the {sum} workers that all pools together need at least; raise it, or lower max_children \
             of static and min_spare_servers of dynamic pools",
            global.process_max
        );
        table.fail(report, "process_max", Cause::Value(sentence));
    }
}
