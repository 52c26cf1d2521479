//! A row of either store, before it becomes a record.

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// SQL NULL or JSON null: an absent field.
    Null,
    /// Text; quoted where it stands in JSON.
    Text(String),
    /// Numbers, booleans, arrays and objects: compact JSON.
    Json(String),
}

impl Cell {
    /// As a Redis value; `None` for NULL.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) | Self::Json(text) => Some(text),
        }
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Json(json) => out.push_str(json),
            Self::Text(text) => out.push_str(&quoted(text)),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Name and value of each column, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row(pub(super) Vec<(String, Cell)>);

impl Row {
    pub(super) fn get(&self, name: &str) -> Option<&Cell> {
        self.0.iter().find(|(column, _)| column == name).map(|(_, cell)| cell)
    }

    /// Takes a column out.
    pub(super) fn take(&mut self, name: &str) -> Option<Cell> {
        let at = self.0.iter().position(|(column, _)| column == name)?;
        Some(self.0.remove(at).1)
    }

    /// The row as one compact JSON object.
    pub(super) fn to_json(&self) -> String {
        let mut out = String::from("{");
        for (i, (name, cell)) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&quoted(name));
            out.push(':');
            cell.write_json(&mut out);
        }
        out.push('}');
        out
    }
}
