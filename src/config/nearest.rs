//! Suggests the name that a mistyped one probably means.

/// The name among those `known` that differs from `name` in the fewest letters that are missing, too many, others or
/// changed about: two at most, or one in a short name. It may be `name` itself.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = if name.len() < 5 { 1 } else { 2 };
    let distances = known.map(|known| (strsim::osa_distance(name, known), known));
    distances.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// The end of a message about a name that is not known; empty when it is like none.
pub(super) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    nearest(name, known).map(|known| format!("; did you mean '{known}'?")).unwrap_or_default()
}
