//! What an operator sees and does: the command line, probes, metrics, signals, reloads, a fresh machine.

mod commandline;
mod embedded;
mod overtaken;
mod probes;
mod reload;
mod store_file;
