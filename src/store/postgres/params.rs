//! Binds the texts of a key's placeholders by the types the server infers for them, and only in their one canonical
//! spelling: another spelling of the same value is another key, which does not exist (hazard 29). Knows no statement.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, Postgres, Type, TypeInfo};

use crate::keys::day_number;
use crate::resp::number::parse_i64;
use crate::store::catalog::described::Param;
use crate::store::plan::Plan;

/// A value in Postgres's binary form, with its type.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    info: PgTypeInfo,
    bytes: Vec<u8>,
}

impl Bound {
    /// True of a text that every encoding of a database has.
    pub(super) fn is_ascii(&self) -> bool {
        self.bytes.is_ascii()
    }
}

impl Type<Postgres> for Bound {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Bound {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.info.clone())
    }
}

/// How a parameter of this type is bound; `None` for a type with more than one spelling per value.
pub(super) fn param(info: &PgTypeInfo) -> Option<Param> {
    match info.name() {
        "INT2" => Some(Param::Int(2)),
        "INT4" => Some(Param::Int(4)),
        "INT8" => Some(Param::Int(8)),
        "TEXT" | "VARCHAR" | "NAME" | "UNKNOWN" => Some(Param::Text),
        "UUID" => Some(Param::Uuid),
        _ => None,
    }
}

/// Binds what the placeholders of a key hold; `None` when one of them cannot be a canonical value of its type, so that
/// no row can have it.
pub(super) fn bind(plan: &Plan, key: &[u8]) -> Option<Vec<Bound>> {
    plan.params.iter().zip(plan.values(key)?).map(|(param, value)| bind_one(param, value)).collect()
}

/// The type that a parameter is sent as, by its number: a name would be looked up in a statement of the driver's own.
pub(super) fn info(param: &Param) -> PgTypeInfo {
    PgTypeInfo::with_oid(Oid(numbers(param).0))
}

/// The values of several keys as one array for each parameter, in the form that Postgres sends arrays in: the number
/// of dimensions, whether there are NULLs, the type of the elements; of the dimension its length and first index; and
/// each element with its length.
/// Source: `array_recv` of <https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/utils/adt/arrayfuncs.c>
pub(super) fn arrays(params: &[Param], keys: &[&Vec<Bound>]) -> Vec<Bound> {
    params.iter().enumerate().map(|(at, param)| array(param, keys.iter().filter_map(|key| key.get(at)))).collect()
}

fn array<'b>(param: &Param, values: impl Iterator<Item = &'b Bound>) -> Bound {
    let (of_elements, of_array) = numbers(param);
    let (mut elements, mut count) = (Vec::new(), 0_i32);
    for value in values {
        count += 1;
        elements.extend((value.bytes.len() as i32).to_be_bytes());
        elements.extend(&value.bytes);
    }
    let head = [1, 0, of_elements as i32, count, 1].map(i32::to_be_bytes).concat();
    Bound { info: PgTypeInfo::with_oid(Oid(of_array)), bytes: [head, elements].concat() }
}

/// The numbers of a parameter's type and of the array of it, which never change.
/// Source: <https://github.com/postgres/postgres/blob/REL_17_STABLE/src/include/catalog/pg_type.dat>
const fn numbers(param: &Param) -> (u32, u32) {
    match param {
        Param::Int(2) => (21, 1005),
        Param::Int(4) => (23, 1007),
        Param::Int(_) => (20, 1016),
        Param::Text | Param::Cast { .. } => (25, 1009),
        Param::Uuid => (2950, 2951),
        Param::Date => (1082, 1182),
    }
}

fn bind_one(param: &Param, value: &[u8]) -> Option<Bound> {
    let bytes = match param {
        Param::Int(width) => {
            let number = parse_i64(value)?;
            match width {
                2 => i16::try_from(number).ok()?.to_be_bytes().to_vec(),
                4 => i32::try_from(number).ok()?.to_be_bytes().to_vec(),
                _ => number.to_be_bytes().to_vec(),
            }
        }
        // Postgres text is UTF-8 without NUL: no row holds anything else.
        Param::Text | Param::Cast { .. } => {
            let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'))?;
            text.as_bytes().to_vec()
        }
        Param::Uuid => uuid(value)?.to_vec(),
        Param::Date => day_number(std::str::from_utf8(value).ok()?)?.to_be_bytes().to_vec(),
    };
    Some(Bound { info: info(param), bytes })
}

/// 8-4-4-4-12 lower-case hexadecimal digits.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let groups: Vec<&[u8]> = text.split(|b| *b == b'-').collect();
    if groups.iter().map(|g| g.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits: Vec<u8> = groups.concat().iter().map(|b| digit(*b)).collect::<Option<_>>()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{bind_one, uuid};
    use crate::store::catalog::described::Param;

    #[test]
    fn only_canonical_spellings_are_bound() {
        for (param, value, bound) in [
            (Param::Int(8), "7", true),
            (Param::Int(8), "007", false),
            (Param::Int(4), "2147483648", false),
            (Param::Int(2), "-32768", true),
            (Param::Text, "anything", true),
            (Param::Uuid, "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11", true),
            (Param::Uuid, "0B6EF1C6-7AC9-4E5C-A9B7-0D5B9D0A7A11", false),
            (Param::Uuid, "0b6ef1c67ac94e5ca9b70d5b9d0a7a11", false),
            (Param::Date, "2026-11-28", true),
            (Param::Date, "20261128", false),
            (Param::Date, "infinity", false),
        ] {
            assert_eq!(bind_one(&param, value.as_bytes()).is_some(), bound, "{value}");
        }
        assert_eq!(bind_one(&Param::Date, b"2000-01-02").expect("binds").bytes, [0, 0, 0, 1]);
        assert_eq!(bind_one(&Param::Int(4), b"258").expect("binds").bytes, [0, 0, 1, 2]);
        assert!(bind_one(&Param::Text, b"a\0b").is_none() && bind_one(&Param::Text, b"\xff").is_none());
        assert_eq!(uuid(b"00000000-0000-0000-0000-0000000000ff").expect("reads")[15], 255);
    }
}
