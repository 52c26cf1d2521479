//! Reads the variables `HEARTHSIDE__SECTION__KEY` over the configuration file.

use std::ffi::OsString;

use config::ConfigBuilder;
use serde_json::Value;

use super::{Faults, Settings, nearest};

const PREFIX: &str = "HEARTHSIDE__";
/// What a variable begins with that was perhaps meant to be one of these.
const ALMOST: &str = "HEARTHSIDE_";

type Builder = ConfigBuilder<config::builder::DefaultState>;

/// The tree of defaults tells which settings there are and which of them are lists.
pub(super) fn override_by(
    mut builder: Builder,
    environment: impl Iterator<Item = (OsString, OsString)>,
    faults: &mut Faults,
) -> Builder {
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let setting = |path: &str| path.split('.').try_fold(&defaults, |at, step| at.get(step)).filter(|d| !d.is_object());
    for (variable, text) in environment {
        let Some((variable, text)) = as_text(variable, text, faults) else { continue };
        let Some(name) = variable.strip_prefix(PREFIX) else {
            doubt(&variable, &defaults, faults);
            continue;
        };
        let path = name.replace("__", ".").to_ascii_lowercase();
        // `..._FILE` names a file that holds the value, unless there is a setting of that name.
        let in_file = path.strip_suffix("_file").filter(|_| setting(&path).is_none());
        let held = in_file.map_or_else(|| Ok(text.clone()), |_| text_of(&text));
        let path = in_file.unwrap_or(&path);
        faults.note_variable(&variable, "environment");
        match (held, setting(path)) {
            (Err(error), _) => faults.add(variable, format!("{text}: {error}")),
            (_, None) => {
                let hint = meant(&variable, &defaults).map(|name| format!("did you mean {name}?"));
                let hint = hint.unwrap_or_else(|| "docs/OPERATIONS.md lists them all".into());
                faults.add(variable, format!("unknown setting; {hint}"));
            }
            (Ok(held), Some(default)) => {
                faults.note_variable(path, &variable);
                match builder.clone().set_override(path, typed(&held, default)) {
                    Ok(next) => builder = next,
                    Err(error) => faults.add(path, error.to_string()),
                }
            }
        }
    }
    builder
}

/// A variable's name and value, unless they are no UTF-8: then it is a fault if it is one of ours, and else left alone.
fn as_text(variable: OsString, text: OsString, faults: &mut Faults) -> Option<(String, String)> {
    let name = variable.to_string_lossy().into_owned();
    match (variable.into_string(), text.into_string()) {
        (Ok(variable), Ok(text)) => return Some((variable, text)),
        (variable, _) if name.starts_with(PREFIX) => {
            let part = if variable.is_ok() { "value" } else { "name" };
            faults.note_variable(&name, "environment");
            faults.add(name, format!("its {part} is no UTF-8 text"));
        }
        _ => {}
    }
    None
}

/// Warns of a variable that is not read, and looks like one that would be.
fn doubt(variable: &str, defaults: &Value, faults: &mut Faults) {
    if variable.to_ascii_uppercase().starts_with(ALMOST)
        && let Some(name) = meant(variable, defaults)
    {
        faults.note_variable(variable, "environment");
        faults.doubt(variable, format!("is not read; did you mean {name}?"));
    }
}

/// The variable that one with single underscores, small letters or a mistyped name was probably meant to be.
fn meant(variable: &str, defaults: &Value) -> Option<String> {
    let flat = |name: &str| name.to_ascii_uppercase().replace("__", "_");
    let given = flat(variable);
    let (given, suffix) = given.strip_suffix("_FILE").map_or((given.as_str(), ""), |rest| (rest, "_FILE"));
    let sections = defaults.as_object()?.iter();
    let keys = sections.filter_map(|(section, keys)| Some((section, keys.as_object()?)));
    let names = keys.flat_map(|(section, keys)| keys.keys().map(move |key| format!("{PREFIX}{section}__{key}")));
    let names: Vec<(String, String)> =
        names.map(|name| name.to_ascii_uppercase()).map(|name| (flat(&name), name)).collect();
    let whole = flat(variable);
    // `..._FILE` is part of some names.
    let found = |given: &str| nearest(given, names.iter().map(|(flat, _)| flat.as_str()));
    let (found, suffix) = match names.iter().find(|(flat, _)| *flat == whole) {
        Some((flat, _)) => (flat.as_str(), ""),
        None => (found(given)?, suffix),
    };
    let (_, name) = names.iter().find(|(flat, _)| flat == found)?;
    Some(format!("{name}{suffix}"))
}

/// A file's text without the line ends behind it.
fn text_of(path: &str) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned())
}

/// An environment text in the form its setting has.
fn typed(text: &str, default: &Value) -> config::Value {
    let list = || text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    match default {
        Value::Array(_) => list().into(),
        Value::Number(number) if number.is_f64() => text.parse::<f64>().map_or_else(|_| text.into(), Into::into),
        Value::Number(_) => text.parse::<i64>().map_or_else(|_| text.into(), Into::into),
        Value::Bool(_) => text.parse::<bool>().map_or_else(|_| text.into(), Into::into),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    #[test]
    fn a_mistyped_variable_is_told_with_the_one_that_was_meant() {
        for (variable, meant) in [
            ("HEARTHSIDE__STOR__URL", "unknown setting; did you mean HEARTHSIDE__STORE__URL?"),
            ("HEARTHSIDE__STORE_URL", "unknown setting; did you mean HEARTHSIDE__STORE__URL?"),
            ("HEARTHSIDE__STOR__URL_FILE", "/dev/null"),
            ("HEARTHSIDE__TLS__CERTFILE", "did you mean HEARTHSIDE__TLS__CERT_FILE?"),
            ("HEARTHSIDE__NO__SUCH", "unknown setting; docs/OPERATIONS.md"),
        ] {
            let told = read("x.toml", "", [(variable.into(), "/dev/null".into())].into_iter());
            let told = told.faults.to_string();
            assert!(told.starts_with(&format!("environment: {variable}: ")), "{variable}: {told}");
            assert!(told.contains(meant) || meant == "/dev/null", "{variable}: {told}");
        }
    }

    #[test]
    fn a_variable_that_is_not_read_and_looks_like_one_is_a_warning() {
        let doubts = |variable: &str| {
            let loaded = read("x.toml", "", [(variable.into(), "1".into())].into_iter());
            assert!(loaded.faults.is_empty(), "{}", loaded.faults);
            loaded.faults.doubts().collect::<Vec<_>>().join("\n")
        };
        for (variable, meant) in [
            ("HEARTHSIDE_STORE_URL", "HEARTHSIDE__STORE__URL"),
            ("HEARTHSIDE_STORE__URL", "HEARTHSIDE__STORE__URL"),
            ("hearthside__store__url", "HEARTHSIDE__STORE__URL"),
            ("HEARTHSIDE_UPSTREAM_URL_FILE", "HEARTHSIDE__UPSTREAM__URL_FILE"),
        ] {
            let expected = format!("environment: {variable}: is not read; did you mean {meant}?");
            assert_eq!(doubts(variable), expected);
        }
        for other in ["HEARTHSIDE_PORT", "HEARTHSIDE_SERVICE_HOST", "HEARTHSIDE_PORT_6380_TCP", "STORE_URL"] {
            assert_eq!(doubts(other), "", "Kubernetes names services like that");
        }
    }
}
