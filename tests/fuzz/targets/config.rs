//! Configurations: whatever stands in one is read, or told as a fault.
#![no_main]

use hearthside::access::Access;
use hearthside::config::read;
use hearthside::mapping::Mappings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = text.lines().take(3).filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (format!("HEARTHSIDE__{}", name.trim()), value.to_owned()));
    let mut loaded = read("fuzz.toml", text, environment.filter(|(name, _)| !name.ends_with("_FILE")));
    let _mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
    let _access = Access::compile(&loaded.config, &mut loaded.faults);
    let _told = loaded.faults.to_string();
});
