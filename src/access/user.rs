//! One user: its passwords and rules.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::password::Hash;
use crate::command::{self, Request, Spec};
use crate::config::{Faults, UserConfig};
use crate::errors;
use crate::keys::{glob_covers, glob_match};
use crate::quota::{Allowance, Quota, Whose};

/// What one user may do.
#[derive(Debug)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Any password will do.
    pub nopass: bool,
    passwords: Vec<Hash>,
    /// By a command's id.
    commands: Vec<bool>,
    /// Commands that the table does not know, all of them or by their lower-case names.
    unknown: bool,
    named: HashSet<String>,
    /// The rules in their order, for commands of which only the upstream says what they are.
    rules: Vec<Rule>,
    keys: Vec<Vec<u8>>,
    channels: Vec<Vec<u8>>,
    /// What all its clients together may take.
    pub quota: Arc<Quota>,
}

/// Allows, or takes away, what `what` names: lower-case `@category`, `command` or `container|subcommand`.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    is_allowed: bool,
    what: String,
}

impl Rule {
    fn read(text: &str) -> Self {
        let (is_allowed, what) = match text.strip_prefix('-') {
            Some(what) => (false, what),
            None => (true, text.strip_prefix('+').unwrap_or(text)),
        };
        Self { is_allowed, what: what.to_ascii_lowercase() }
    }

    fn names(&self, spec: &Spec) -> bool {
        let container = spec.name.split('|').next().unwrap_or_default();
        let is_in = |category: &str| category == "all" || spec.categories.contains(&category);
        spec.name == self.what || container == self.what || self.what.strip_prefix('@').is_some_and(is_in)
    }
}

/// Notes limits that would let nothing through, or belong to none.
fn limits(settings: &UserConfig, faults: &mut Faults) {
    for (key, number) in [("burst", settings.burst), ("loads", settings.loads)] {
        if number == Some(0) {
            faults.add(format!("{}.{key}", settings.path), "must be at least 1; without it there is no limit");
        }
    }
    if settings.burst.is_some() && settings.rate.is_none() {
        faults.add(format!("{}.burst", settings.path), "is what may come at once where rate is given");
    }
}

/// May touch keys that they do not name.
const SCRIPTS: [&str; 6] = ["eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"];

impl User {
    pub(super) fn compile(settings: &UserConfig, faults: &mut Faults) -> Self {
        let bytes = |texts: &[String]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let mut user = Self {
            name: settings.name.clone(),
            nopass: settings.nopass,
            passwords: Vec::new(),
            commands: vec![false; command::rows()],
            unknown: false,
            named: HashSet::new(),
            rules: settings.commands.iter().map(|rule| Rule::read(rule)).collect(),
            keys: bytes(&settings.keys),
            channels: bytes(&settings.channels),
            quota: Arc::new(Quota::new(Whose::User, &settings.name, Allowance::of_user(settings))),
        };
        for text in &settings.passwords {
            match Hash::read(text) {
                Some(hash) => user.passwords.push(hash),
                None => faults.add(
                    format!("{}.passwords", settings.path),
                    "each must be the SHA-256 of a password, 64 hexadecimal digits (printf %s PASSWORD | sha256sum)",
                ),
            }
        }
        limits(settings, faults);
        for rule in &settings.commands {
            if !user.rule(rule) {
                faults.add(
                    format!("{}.commands", settings.path),
                    format!("'{rule}' is no command, container|subcommand or @category of Redis"),
                );
            }
        }
        user
    }

    /// Applies `@category`, `command` or `container|subcommand`, or with a `-` takes it away. False if there is none
    /// such.
    fn rule(&mut self, rule: &str) -> bool {
        let rule = Rule::read(rule);
        if rule.what == "@all" {
            self.unknown = rule.is_allowed;
            self.named.clear();
        }
        let mut known = rule.what == "@all";
        for spec in command::all().filter(|spec| rule.names(spec)) {
            self.commands[spec.id] = rule.is_allowed;
            known = true;
        }
        let Rule { is_allowed: allowed, what } = rule;
        // Modules name their commands with a dot.
        if !known && what.contains('.') {
            known = true;
            if allowed {
                self.named.insert(what)
            } else {
                self.named.remove(&what)
            };
        }
        known
    }

    pub(super) fn has_password(&self, password: &[u8]) -> bool {
        self.nopass || self.passwords.iter().any(|hash| hash.is_of(password))
    }

    /// Why it may not send `request`, if so.
    pub(super) fn refusal(&self, request: &Request<'_>, spec: Option<&'static Spec>) -> Option<String> {
        let name: Cow<'_, str> = match spec {
            Some(spec) => spec.name.as_str().into(),
            None => request.name().to_ascii_lowercase().into(),
        };
        let allowed = spec.map_or(self.unknown || self.named.contains(&*name), |spec| self.may_run(spec));
        if !allowed {
            return Some(errors::as_redis::no_command(&name));
        }
        if !self.has_all_keys()
            && let Some(text) = self.key_refusal(request, spec, &name)
        {
            return Some(text);
        }
        let may = self.may_use_channels(request, &name) && spec.is_none_or(|spec| self.may_use_channels_of(spec));
        (!may).then(|| errors::as_redis::NO_CHANNEL.into())
    }

    fn may_run(&self, spec: &Spec) -> bool {
        self.commands.get(spec.id).copied().unwrap_or_else(|| self.may_run_learned(spec))
    }

    /// By the last rule that names the command; one that the upstream has renamed is what it was before.
    fn may_run_learned(&self, spec: &Spec) -> bool {
        match spec.learned().and_then(|learned| learned.original) {
            Some(original) => self.may_run(original),
            None => self.rules.iter().rev().find(|rule| rule.names(spec)).is_some_and(|rule| rule.is_allowed),
        }
    }

    /// Of a command that only the upstream knows it is not known which channels it uses.
    fn may_use_channels_of(&self, spec: &Spec) -> bool {
        let is_learned = spec.learned().is_some() && spec.categories.contains(&"pubsub");
        !is_learned || self.channels.iter().any(|rule| rule == b"*")
    }

    fn has_all_keys(&self) -> bool {
        self.keys.iter().any(|pattern| pattern == b"*")
    }

    /// For a user that may not touch all keys.
    fn key_refusal(&self, request: &Request<'_>, spec: Option<&'static Spec>, name: &str) -> Option<String> {
        let hidden = match spec {
            None => true,
            // One that names no key may touch any: what it is for nobody knows here.
            Some(spec) => spec.has_hidden_keys || SCRIPTS.contains(&name) || !spec.is_clean() && spec.keys.is_empty(),
        };
        if hidden {
            return Some(errors::denied::hidden_keys(name));
        }
        let mut allowed = true;
        request.each_key(spec?, |at| {
            allowed &= self.keys.iter().any(|pattern| match name {
                "hearthside|invalidate" => glob_covers(pattern, request.arg(at)),
                _ => glob_match(pattern, request.arg(at)),
            });
        });
        (!allowed).then(|| errors::as_redis::NO_KEY.into())
    }

    /// True when it may listen to this channel (or pattern, which must be allowed literally, as in Redis).
    #[must_use]
    pub fn may_listen(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.channels.iter().any(|rule| match is_pattern {
            true => rule == channel || rule == b"*",
            false => glob_match(rule, channel),
        })
    }

    /// True when `other` may do the same, whatever its passwords.
    #[must_use]
    pub fn has_rules_of(&self, other: &Self) -> bool {
        (&self.rules, &self.keys, &self.channels) == (&other.rules, &other.keys, &other.channels)
    }

    fn may_use_channels(&self, request: &Request<'_>, name: &str) -> bool {
        let last = match name {
            "publish" | "spublish" => 2,
            "subscribe" | "ssubscribe" | "psubscribe" => request.len(),
            _ => return true,
        };
        let is_allowed = |channel: &[u8]| self.may_listen(channel, name == "psubscribe");
        (1..last.min(request.len())).all(|at| is_allowed(request.arg(at)))
    }
}
