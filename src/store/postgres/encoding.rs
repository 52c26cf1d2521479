//! The encoding of the database: texts are UTF-8 for a sidecar, and not all of them have a form in another encoding,
//! nor the other way round.

use sqlx::PgPool;

use crate::store::StoreError;

/// What an operator should know of it.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn doubt(pool: &PgPool) -> Result<Option<String>, StoreError> {
    let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')").fetch_one(pool).await?;
    Ok(match encoding.as_str() {
        "UTF8" => None,
        "SQL_ASCII" => Some(
            "the encoding of the database is SQL_ASCII, which takes any bytes: a row with a text that is no UTF-8 \
             cannot be read, where it is its key's neither can KEYS and SCAN list its mapping, and a change of it \
             concerns the whole mapping"
                .to_owned(),
        ),
        _ => Some(format!(
            "the encoding of the database is {encoding}: a key with a character that it does not have is absent, and a \
             write of such a character is refused; a deferred one is put aside"
        )),
    })
}
