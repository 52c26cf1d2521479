//! The text format of Prometheus, made of OpenMetrics: the same samples under headers that name counters as their
//! samples are named.

/// Which format is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 0.0.4 of the text format, which every scraper reads.
    /// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>
    Prometheus,
    /// Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` header asks for: OpenMetrics where it is named, and not liked less than text.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f64, 0.0_f64);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let of = |name| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            let weight = of("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
            match media.as_str() {
                "application/openmetrics-text" if of("version").is_none_or(|version| version == "1.0.0") => {
                    open = open.max(weight);
                }
                "text/plain" | "text/*" => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// As `Content-Type` names it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What OpenMetrics text says, as Prometheus text.
pub(super) fn prometheus(open: &str) -> String {
    let mut text = String::with_capacity(open.len() + 4096);
    // The header of a counter names its kind only after its help.
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take() {
                push(&mut text, &["# HELP ", name, suffix, " ", words]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            push(&mut text, &[line]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied().chain(["\n"]));
}

#[cfg(test)]
mod tests {
    use super::{Format, prometheus};

    #[test]
    fn a_counter_is_named_as_its_samples_and_nothing_else_changes() {
        let open = "# HELP a An a.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d A d.\n# TYPE d gauge\nd 2\n# EOF\n";
        let text =
            "# HELP a_total An a.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP d A d.\n# TYPE d gauge\nd 2\n";
        assert_eq!(prometheus(open), text);
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it_and_nobody_else() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for accept in [prometheus, "application/openmetrics-text", "application/OpenMetrics-Text; version=1.0.0"] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
        let others = [
            "",
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.1,text/plain;q=0.9",
        ];
        for accept in others {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }
}
