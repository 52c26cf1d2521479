//! Reads a configuration in layers: the defaults, then the file, then the variables `HEARTHSIDE__SECTION__KEY`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{File, FileFormat};
use serde_json::Value;

use super::nearest::did_you_mean;
use super::variables::override_by;
use super::{Config, Faults, MappingConfig, NearConfig, Settings, UserConfig, extremes, validate};

/// The shipped `config.toml`, which is also what runs when there is no file.
pub const SHIPPED: &str = include_str!("../../config.toml");

/// A configuration, and the faults found in it so far (others may be added by those who know more).
#[derive(Debug)]
pub struct Loaded {
    /// What was read; faulty settings have their defaults.
    pub config: Config,
    /// What is wrong with it.
    pub faults: Faults,
}

/// The file that is read where none is named: `config.toml` in the working directory, if it is there.
#[must_use]
pub fn default_file() -> Option<PathBuf> {
    Some(PathBuf::from("config.toml")).filter(|path| path.exists())
}

/// Reads `file`, or the [`default_file`], or the shipped text, and the given environment.
pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (OsString, OsString)>) -> Loaded {
    let default = default_file();
    let (name, text) = match file.or(default.as_deref()) {
        None => ("built-in config.toml".to_owned(), Ok(SHIPPED.to_owned())),
        Some(path) => (path.display().to_string(), std::fs::read_to_string(path)),
    };
    match text {
        Ok(text) => read(&name, &text, environment),
        Err(error) => {
            let mut faults = Faults::new(&name, "");
            faults.add("--config", format!("cannot be read: {error}"));
            Loaded { config: Config::default(), faults }
        }
    }
}

/// Reads the text of a file of this name, and the given environment.
pub fn read(name: &str, text: &str, environment: impl Iterator<Item = (OsString, OsString)>) -> Loaded {
    let mut faults = Faults::new(name, text);
    let builder = config::Config::builder().add_source(File::from_str(text, FileFormat::Toml));
    let builder = override_by(builder, environment, &mut faults);
    let tree = match builder.build().and_then(config::Config::try_deserialize::<Value>) {
        Ok(tree) => tree,
        Err(error) => {
            let error = toml::from_str::<toml::Table>(text).map_or_else(|e| e.to_string(), |_| error.to_string());
            faults.add("syntax", error.trim_end());
            return Loaded { config: Config::default(), faults };
        }
    };
    let config = from_tree(tree, &mut faults);
    extremes::check(&config, &mut faults);
    validate::check(&config.settings, &mut faults);
    Loaded { config, faults }
}

/// The keys that only `[[caches]]` have.
const OF_CACHES: [&str; 16] = [
    "ttl",
    "renew",
    "stale_while_revalidate",
    "stale_if_error",
    "max_staleness",
    "negative_ttl",
    "write",
    "deferred",
    "expires_column",
    "delete",
    "push",
    "remove",
    "load_rate",
    "load_burst",
    "loads",
    "mirror",
];
/// The keys that only `[[definitions]]` have.
const OF_DEFINITIONS: [&str; 1] = ["file"];

/// What is written as blocks `[[like this]]`.
const BLOCKS: [&str; 4] = ["definitions", "caches", "near", "users"];

fn from_tree(mut tree: Value, faults: &mut Faults) -> Config {
    let mut blocks = |name: &str| match tree.as_object_mut().and_then(|map| map.remove(name)) {
        Some(Value::Array(items)) => items,
        Some(_) => {
            faults.add(name, format!("write each as a block [[{name}]]"));
            Vec::new()
        }
        None => Vec::new(),
    };
    let [definitions, caches, near, users] = BLOCKS.map(&mut blocks);
    take_out_unknown(&mut tree, faults);
    Config {
        settings: faults.read(tree, "", &Settings::default()).unwrap_or_default(),
        definitions: read_blocks("definitions", definitions, faults, &OF_CACHES),
        caches: read_blocks("caches", caches, faults, &OF_DEFINITIONS),
        near: read_near(near, faults),
        users: read_users(users, faults),
    }
}

/// Takes out what is no section, with a fault.
fn take_out_unknown(tree: &mut Value, faults: &mut Faults) {
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let sections = || defaults.as_object().into_iter().flat_map(|sections| sections.keys()).map(String::as_str);
    let Some(tree) = tree.as_object_mut() else { return };
    tree.retain(|name, value| {
        let is_section = sections().any(|section| section == name);
        let message = match value {
            Value::Object(_) | Value::Null if is_section => return true,
            Value::Array(_) => format!("unknown block [[{name}]]{}", did_you_mean(name, BLOCKS.into_iter())),
            _ if is_section => format!("is a section: write [{name}], and its keys below, one a line"),
            _ => format!("unknown key{}", did_you_mean(name, sections().chain(BLOCKS))),
        };
        faults.add(name, message);
        false
    });
}

/// Reads the blocks of one kind; the keys of the other kind are `foreign` to it.
fn read_blocks(name: &str, items: Vec<Value>, faults: &mut Faults, foreign: &[&str]) -> Vec<MappingConfig> {
    let (mut blocks, example) = (Vec::new(), MappingConfig::example());
    for (i, item) in items.into_iter().enumerate() {
        let path = format!("{name}[{i}]");
        for key in foreign.iter().filter(|key| item.get(key).is_some()) {
            faults.add(format!("{path}.{key}"), format!("is not a key of [[{name}]]"));
        }
        blocks.extend(faults.read(item, &path, &example).map(|block| MappingConfig { path, ..block }));
    }
    blocks
}

fn read_near(items: Vec<Value>, faults: &mut Faults) -> Vec<NearConfig> {
    let read = |(i, item)| {
        let path = format!("near[{i}]");
        faults.read(item, &path, &NearConfig::default()).map(|block| NearConfig { path, ..block })
    };
    items.into_iter().enumerate().filter_map(read).collect()
}

fn read_users(items: Vec<Value>, faults: &mut Faults) -> Vec<UserConfig> {
    let read = |(i, item)| {
        let path = format!("users[{i}]");
        faults.read(item, &path, &UserConfig::default()).map(|user| UserConfig { path, ..user })
    };
    items.into_iter().enumerate().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::{Loaded, SHIPPED, read};
    use crate::config::Settings;

    fn load(text: &str, environment: &[(&str, &str)]) -> Loaded {
        read("test.toml", text, environment.iter().map(|(k, v)| (k.into(), v.into())))
    }

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let loaded = load(SHIPPED, &[]);
        assert!(loaded.faults.is_empty(), "{}", loaded.faults);
        assert_eq!(loaded.config.settings, Settings::default());
        assert!(!loaded.config.definitions.is_empty() && !loaded.config.caches.is_empty());
        let named: toml::Table = toml::from_str(SHIPPED).expect("parses");
        for (section, keys) in serde_json::to_value(Settings::default()).expect("a tree").as_object().expect("sections")
        {
            for key in keys.as_object().expect("keys").keys() {
                assert!(named[section].get(key).is_some(), "config.toml does not show {section}.{key}");
            }
        }
    }

    #[test]
    fn the_environment_wins() {
        let loaded = load(
            "[upstream]\nlanes = 1\n",
            &[
                ("HEARTHSIDE__SERVER__LISTEN", "127.0.0.1:1, unix:///tmp/s"),
                ("HEARTHSIDE__UPSTREAM__LANES", "3"),
                ("HEARTHSIDE__SECURITY__DENY", ""),
                ("HEARTHSIDE__CACHE__MAX_BYTES", "1mb"),
                ("HEARTHSIDE__ADMIN__LISTEN", ""),
                ("OTHER", "x"),
            ],
        );
        assert!(loaded.faults.is_empty(), "{}", loaded.faults);
        let settings = loaded.config.settings;
        assert_eq!(settings.server.listen, ["127.0.0.1:1", "unix:///tmp/s"]);
        assert_eq!((settings.upstream.lanes, settings.cache.max_bytes.0), (3, 1 << 20));
        assert!(settings.security.deny.is_empty() && settings.admin.listen.is_empty());
    }

    #[test]
    fn a_variable_may_name_a_file_that_holds_the_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "redis://:s3cret@localhost\n").expect("written");
        let secret = secret.display().to_string();
        let loaded =
            load("", &[("HEARTHSIDE__UPSTREAM__URL_FILE", &secret), ("HEARTHSIDE__UPSTREAM__CA_FILE", "/not/read")]);
        assert!(loaded.faults.is_empty(), "{}", loaded.faults);
        let upstream = loaded.config.settings.upstream;
        assert_eq!((upstream.url.as_str(), upstream.ca_file.as_str()), ("redis://:s3cret@localhost", "/not/read"));
        let told = load("", &[("HEARTHSIDE__STORE__URL_FILE", "/no/such"), ("HEARTHSIDE__NO__SUCH_FILE", &secret)]);
        let told = told.faults.to_string();
        assert!(told.contains("HEARTHSIDE__STORE__URL_FILE: /no/such: ") && told.contains("unknown setting"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[test]
    fn tls_addresses_need_a_certificate() {
        let told =
            load("[server]\nlisten = [\"rediss://127.0.0.1:1\"]\nunix_mode = \"999\"\n[tls]\nkey_file = \"k\"", &[]);
        let told = told.faults.to_string();
        for expected in ["tls.cert_file", "tls.key_file", "server.unix_mode"] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place() {
        let text = "[server]\nlisten = []\nprot = 1\n[cache]\nnegative_ttl = \"soon\"\n[nonsense]\na = 1\n\
                    [[caches]]\nkey = \"a:{x}\"\ntype = \"hash\"\ntabel = \"t\"\nttl = \"30 parsecs\"\n\
                    [[caches]]\ntype = \"bag\"\n";
        let loaded = load(text, &[("HEARTHSIDE__UPSTREAM__LANES", "few"), ("HEARTHSIDE__NO__SUCH", "1")]);
        let told = loaded.faults.to_string();
        for expected in [
            "test.toml:2: server.listen: must name",
            "test.toml:3: server.prot: unknown key",
            "test.toml:5: cache.negative_ttl: ",
            "test.toml:6: nonsense: unknown key",
            "test.toml:11: caches[0].tabel: unknown key; did you mean 'table'?",
            "test.toml:12: caches[0].ttl: ",
            "caches[1]",
            "HEARTHSIDE__UPSTREAM__LANES: upstream.lanes: ",
            "HEARTHSIDE__NO__SUCH: unknown setting",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
    }

    #[test]
    fn a_mistyped_name_is_told_with_the_one_that_was_meant() {
        for (text, expected) in [
            ("[[cache]]\nkey = \"a:{x}\"", "test.toml:1: cache: unknown block [[cache]]; did you mean 'caches'?"),
            ("[[user]]\nname = \"a\"", "test.toml:1: user: unknown block [[user]]; did you mean 'users'?"),
            ("[caches]\nkey = 1", "test.toml:1: caches: write each as a block [[caches]]"),
            ("[sever]\nworkers = 1", "test.toml:1: sever: unknown key; did you mean 'server'?"),
            ("server = 1", "test.toml:1: server: is a section: write [server]"),
            ("[server]\nlisen = []", "test.toml:2: server.lisen: unknown key; did you mean 'listen'?"),
            ("[log]\nformat = \"jsn\"", "write one of \"text\", \"json\"; did you mean 'json'?"),
            (
                "[[caches]]\nkey = \"a:{x}\"\ntype = \"hash\"\nwatch = [{ tabel = \"t\", table = \"t\" }]",
                "caches[0].watch[0].tabel: unknown key; did you mean 'table'?",
            ),
            ("[[users]]\nname = \"a\"\nnopas = true", "users[0].nopas: unknown key; did you mean 'nopass'?"),
        ] {
            let told = load(text, &[]).faults.to_string();
            assert!(told.contains(expected) && told.lines().count() == 1, "{text}\n{told}");
        }
    }

    #[test]
    fn a_broken_file_tells_its_line() {
        let told = load("[server\nlisten = 1\n", &[]).faults.to_string();
        assert!(told.contains("line 1"), "{told}");
    }
}
