//! The operands and options of `fpmctl import`. Documented in fpmctl(8).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Whose configuration is translated.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Import {
    /// Translate a php-fpm configuration
    #[command(after_help = PHP_FPM_EXAMPLES)]
    PhpFpm(PhpFpm),
    /// Translate a spawn-fcgi command line
    #[command(after_help = SPAWN_FCGI_EXAMPLES)]
    SpawnFcgi {
        /// The options and the application, as spawn-fcgi gets them
        #[arg(last = true, required = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
    /// Translate the [fcgi-program:x] sections of a supervisord configuration
    Supervisord {
        /// supervisord.conf; what it includes is read, too
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// `import php-fpm`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PhpFpm {
    /// The workers' program, if it is not the php-cgi that belongs to this php-fpm
    #[arg(long, short, value_name = "PATH")]
    pub command: Option<String>,
    /// Where php-fpm's relative paths start, if it is not what stands before "/etc" in FILE
    #[arg(long, short, value_name = "DIR")]
    pub prefix: Option<PathBuf>,
    /// php-fpm.conf, or files of its pool.d; what they include is read, too
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

const PHP_FPM_EXAMPLES: &str = "\
Examples:
  fpmctl import php-fpm /etc/php/8.2/fpm/php-fpm.conf >/etc/fpmd/fpmd.toml
  fpmctl import php-fpm --command /usr/bin/php-cgi8.4 pool.d/www.conf";

const SPAWN_FCGI_EXAMPLES: &str = "\
Examples:
  fpmctl import spawn-fcgi -- -s /run/app.sock -u www-data -F 4 -- /usr/bin/php-cgi
  fpmctl import spawn-fcgi -- -p 9000 -n -- /usr/bin/multiwatch -f 4 -- /srv/app.fcgi";
