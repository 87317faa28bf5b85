//! Settings on their way to a new program: in the language of the configuration file, which every version reads and fills up
//! with its own defaults, and with what the user database said, so that nothing has to be asked for them again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::config::model::{Config, Global, Pool};
use crate::config::{self, Errors, Host};
use crate::ids::{Generation, PoolName};
use crate::os::host::{Remembered, Resident};
use crate::sorted::SortedMap;

/// The global settings and those of every generation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    global: String,
    pools: Vec<WrittenPool>,
    known: Resident,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenPool {
    pool: PoolName,
    text: String,
    /// Whether the next generation gets them.
    is_newest: bool,
    generations: Vec<Generation>,
}

/// What messages about these texts call them: nobody has typed them.
const NAME: &str = "settings in force";

impl Settings {
    /// Writes them down, and makes sure that they will be understood.
    ///
    /// # Errors
    /// A sentence: a user that they name is another one by now.
    pub fn write(&self, global: &Global) -> Result<Written, String> {
        let mut pools: SortedMap<*const Pool, (Arc<Pool>, WrittenPool)> = SortedMap::new();
        let mut entry = |settings: &Arc<Pool>, generation: Option<Generation>| {
            let (_, written) = pools.or_insert_with(Arc::as_ptr(settings), || {
                let written = WrittenPool {
                    pool: settings.name.clone(),
                    text: text(global, Some(settings)),
                    is_newest: false,
                    generations: Vec::new(),
                };
                (Arc::clone(settings), written)
            });
            match generation {
                Some(generation) => written.generations.push(generation),
                None => written.is_newest = true,
            }
        };
        self.newest.values().for_each(|settings| entry(settings, None));
        self.in_force.iter().for_each(|((_, generation), settings)| entry(settings, Some(*generation)));
        let known = Resident::prepared(|host| {
            for (_, written) in pools.values() {
                let _ = load(&written.text, host);
            }
        });
        let known = Remembered(known);
        for (settings, written) in pools.values() {
            if read_pool(&written.text, &written.pool, &known)? != **settings {
                let name = &written.pool;
                return Err(format!(
                    "a user or group of pool {name} has changed since it was loaded; reload it first"
                ));
            }
        }
        let pools = pools.into_values().map(|(_, written)| written).collect();
        Ok(Written { global: text(global, None), pools, known: known.0 })
    }

    /// Reads them again.
    ///
    /// # Errors
    /// A sentence: this version has no such setting, or not with that value.
    pub fn read(written: Written) -> Result<(Global, Settings), String> {
        let known = Remembered(written.known);
        let mut settings = Settings::default();
        for WrittenPool { pool, text, is_newest, generations } in written.pools {
            let read = Arc::new(read_pool(&text, &pool, &known)?);
            for generation in generations {
                settings.in_force.insert((pool.clone(), generation), Arc::clone(&read));
            }
            if is_newest {
                settings.newest.insert(pool, read);
            }
        }
        let global = load(&written.global, &known).map_err(|errors| errors.to_string())?.global;
        Ok((global, settings))
    }
}

fn text(global: &Global, pool: Option<&Arc<Pool>>) -> String {
    let pools = pool.map(|pool| (pool.name.clone(), Pool::clone(pool)));
    config::dump(&Config { global: global.clone(), pools: pools.into_iter().collect() })
}

fn load(text: &str, host: &dyn Host) -> Result<Config, Errors> {
    config::load_text(NAME, text, host)
}

fn read_pool(text: &str, name: &PoolName, host: &dyn Host) -> Result<Pool, String> {
    let mut config = load(text, host).map_err(|errors| errors.to_string())?;
    config.pools.remove(name).ok_or_else(|| format!("the settings of pool {name} are not written down"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::host::Machine;

    const TEXT: &str = "
        [global]
        control_socket = '/run/x/control'
        process_control_timeout = '7s'
        [pool.www]
        listen = ['/run/x/www.sock', '127.0.0.1:9000', '@x', 'systemd:web']
        command = ['/gone/since', 'a b', '\u{e9}\"']
        dispatch = 'direct'
        env = { A = 'x=\"y\"' }
        [pool.www.pm]
        max_children = 5";

    /// With a user by name, as root has to have one.
    fn config(text: &str) -> Config {
        let user = Machine.user(&Machine.uid().0.to_string()).unwrap().unwrap().name;
        let text = text.replace("dispatch =", &format!("user = '{user}'\ndispatch ="));
        load(&text, &Remembered(Resident::default())).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_with_its_sharing_and_without_a_look_at_the_machine() {
        let mut settings = Settings::default();
        let Config { global, mut pools } = config(TEXT);
        let name = PoolName::new("www").unwrap();
        settings.propose(pools.remove(&name).unwrap());
        settings.adopt(&name, Generation(1)).unwrap();
        settings.propose(config(&TEXT.replace("= 5", "= 6")).pools.remove(&name).unwrap());
        settings.adopt(&name, Generation(2)).unwrap();
        let written = serde_json::to_string(&settings.write(&global).unwrap()).unwrap();
        let (read_global, read) = Settings::read(serde_json::from_str(&written).unwrap()).unwrap();
        assert_eq!(read_global, global);
        assert_eq!(read.newest, settings.newest);
        assert_eq!(read.in_force, settings.in_force);
        let newest = &read.newest[&name];
        assert!(Arc::ptr_eq(newest, &read.in_force[&(name.clone(), Generation(2))]));
    }

    #[test]
    fn a_setting_that_this_version_does_not_know_is_named() {
        let mut settings = Settings::default();
        let Config { global, pools } = config(TEXT);
        pools.into_values().for_each(|pool| settings.propose(pool));
        let mut written = settings.write(&global).unwrap();
        written.pools[0].text.push_str("from_the_future = 1\n");
        let refusal = Settings::read(written).unwrap_err();
        assert!(refusal.contains("from_the_future"), "{refusal}");
    }
}
