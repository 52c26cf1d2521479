//! Keys of the upstream that are copied into the store (`hearthside import`), and those that mappings hide.

mod adopt;
mod copies;
mod hidden;
mod meanwhile;
mod permitted;
mod resumed;
mod several;
mod tables;
