//! `security.deny`: the commands that are refused to everybody. Pure: a request in, a verdict out.

use std::collections::HashSet;

use super::Refusal;
use crate::command::{self, Request, Spec};
use crate::errors;
use crate::telemetry::refusals::By;

/// What the list says of a row of the command table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Allowed,
    Denied,
    /// A container, some of whose subcommands are denied that the table does not know.
    Partly,
}

/// The list, read once.
#[derive(Debug, PartialEq, Eq)]
pub struct Denied {
    /// By a command's id.
    rows: Vec<Row>,
    /// In upper case: `COMMAND` or `CONTAINER SUBCOMMAND`.
    names: HashSet<String>,
}

impl Denied {
    /// Reads the entries of `security.deny`.
    #[must_use]
    pub fn new(list: &[String]) -> Self {
        let names: HashSet<String> = list.iter().map(|name| name.trim().to_ascii_uppercase()).collect();
        let mut rows = vec![Row::Allowed; command::rows()];
        for spec in command::all() {
            let name = spec.name.replace('|', " ").to_ascii_uppercase();
            let container = name.split(' ').next().unwrap_or_default();
            rows[spec.id] = match () {
                () if names.contains(container) || names.contains(&name) => Row::Denied,
                () if names.iter().any(|denied| denied.strip_prefix(&name).is_some_and(|sub| sub.starts_with(' '))) => {
                    Row::Partly
                }
                () => Row::Allowed,
            };
        }
        Self { rows, names }
    }

    /// True when the list names the command of `request`, whose row of the table is `spec`.
    #[must_use]
    #[inline]
    pub fn denies(&self, request: &Request<'_>, spec: Option<&Spec>) -> bool {
        let row = spec.and_then(|spec| self.row(spec));
        row != Some(Row::Allowed) && self.names_it(request, row)
    }

    /// What the list says of a row; `None` of one that only the upstream has. What the upstream has renamed is denied
    /// under its new name, too.
    #[inline]
    fn row(&self, spec: &Spec) -> Option<Row> {
        match self.rows.get(spec.id) {
            Some(row) => Some(*row),
            None => self.row_of_original(spec),
        }
    }

    #[cold]
    fn row_of_original(&self, spec: &Spec) -> Option<Row> {
        let original = spec.learned()?.original?;
        self.rows.get(original.id).copied().filter(|row| *row == Row::Denied)
    }

    #[cold]
    fn names_it(&self, request: &Request<'_>, row: Option<Row>) -> bool {
        match row {
            Some(Row::Allowed) => false,
            Some(Row::Denied) => true,
            Some(Row::Partly) => self.names.contains(&with_subcommand(request)),
            None if self.names.is_empty() => false,
            None => {
                self.names.contains(&request.name().to_ascii_uppercase())
                    || self.names.contains(&with_subcommand(request))
            }
        }
    }

    /// The error for a request that the list names.
    #[must_use]
    pub fn refusal(&self, request: &Request<'_>, spec: Option<&Spec>) -> Refusal {
        let original = spec.and_then(|spec| spec.learned()?.original).map(|original| original.name.replace('|', " "));
        let (name, whole) = (request.name().to_ascii_uppercase(), with_subcommand(request));
        let original = original.map(|original| original.to_ascii_uppercase());
        let container = original.as_deref().and_then(|original| original.split(' ').next()).map(str::to_owned);
        let named = [Some(name), Some(whole.clone()), original, container].into_iter().flatten();
        let entry = named.into_iter().find(|entry| self.names.contains(entry)).unwrap_or(whole);
        Refusal::by(By::Deny, errors::denied::by_list(&entry))
    }
}

fn with_subcommand(request: &Request<'_>) -> String {
    let subcommand = &request.arg(1)[..request.arg(1).len().min(128)];
    format!("{} {}", request.name(), String::from_utf8_lossy(subcommand)).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Denied;
    use crate::command::{Request, lookup};
    use crate::resp::encode;
    use crate::resp::request::RequestScanner;

    fn verdict(denied: &Denied, line: &str) -> Option<String> {
        let mut raw = BytesMut::new();
        encode::request(&mut raw, &line.split(' ').collect::<Vec<_>>());
        let mut scanner = RequestScanner::default();
        scanner.scan(&raw).expect("a request");
        let request = Request::new(&raw, scanner.spans());
        let denies = denied.denies(&request, lookup(request.arg(0), request.arg(1)));
        denies.then(|| denied.refusal(&request, None).text)
    }

    #[test]
    fn the_list_names_commands_containers_and_subcommands() {
        let list = ["SHUTDOWN", "config set", "module", "FT.SEARCH", "FT.CONFIG SET", "CLIENT NEWER", " debug "];
        let denied = Denied::new(&list.map(str::to_owned));
        for (line, entry) in [
            ("shutdown", "SHUTDOWN"),
            ("SHUTDOWN NOSAVE", "SHUTDOWN"),
            ("config SET a b", "CONFIG SET"),
            ("Module list", "MODULE"),
            ("MODULE nosuch", "MODULE"),
            ("ft.search x", "FT.SEARCH"),
            ("ft.config set x", "FT.CONFIG SET"),
            ("client newer x", "CLIENT NEWER"),
            ("debug sleep 0", "DEBUG"),
        ] {
            let expected =
                format!("NOPERM hearthside: {entry} is denied by security.deny; take it out of that list to allow it");
            assert_eq!(verdict(&denied, line), Some(expected), "{line}");
        }
        for line in
            ["config get a", "config", "ft.config get x", "client id", "client", "get a", "nosuch", "set set set"]
        {
            assert_eq!(verdict(&denied, line), None, "{line}");
        }
        assert_eq!(verdict(&Denied::new(&[]), "nosuch x"), None);
    }
}
