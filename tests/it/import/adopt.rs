//! Whole records that the store inserts unless it has a row for their key, and takes back while nobody has written to
//! them.

use bytes::Bytes;
use hearthside::mapping::Mapping;
use hearthside::record::Record;
use hearthside::store::{Adopted, Foreign, Inserted, Plan, Store};

use super::tables::Tables;

fn hash(pairs: &[(&str, &str)]) -> Record {
    Record::hash(pairs).expect("a record")
}

fn foreign(key: &str, record: Record) -> Foreign {
    (Bytes::copy_from_slice(key.as_bytes()), record)
}

/// A word for each: what became of it.
fn words(told: &[Adopted]) -> Vec<String> {
    let word = |one: &Adopted| match one {
        Adopted::Inserted(_) => "inserted".to_owned(),
        Adopted::There => "there".to_owned(),
        Adopted::Refused(error) => error.to_string(),
    };
    told.iter().map(word).collect()
}

struct Desk {
    runtime: tokio::runtime::Runtime,
    store: Store,
    mappings: Vec<Mapping>,
}

impl Desk {
    fn over(tables: &Tables) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (settings, mappings) = tables.settings();
        let store = runtime.block_on(Store::connect(&settings)).expect("it is there");
        Self { runtime, store, mappings: mappings.list }
    }

    fn plan(&self, prefix: &str) -> Plan {
        let is_meant = |mapping: &&Mapping| mapping.pattern.text().starts_with(prefix);
        let mapping = self.mappings.iter().find(is_meant).expect("a mapping");
        self.runtime.block_on(self.store.plan(mapping)).expect("it fits")
    }

    fn adopt(&self, prefix: &str, records: &[Foreign]) -> Vec<Adopted> {
        self.runtime.block_on(self.store.adopt(&self.plan(prefix), records, "a test")).expect("it answers")
    }

    fn retract(&self, prefix: &str, inserted: &[(Bytes, Inserted)]) -> Vec<bool> {
        self.runtime.block_on(self.store.retract(&self.plan(prefix), inserted, "a test")).expect("it answers")
    }
}

/// What was inserted of these.
fn inserted(records: &[Foreign], told: Vec<Adopted>) -> Vec<(Bytes, Inserted)> {
    let one = |((key, _), told): (&Foreign, Adopted)| match told {
        Adopted::Inserted(inserted) => Some((key.clone(), inserted)),
        Adopted::There | Adopted::Refused(_) => None,
    };
    records.iter().zip(told).filter_map(one).collect()
}

fn each_store(test: impl Fn(&Tables)) {
    for tables in [Tables::postgres(), Tables::sqlite()] {
        test(&tables);
    }
}

#[test]
fn a_hash_is_inserted_once_and_as_a_whole() {
    each_store(|tables| {
        let desk = Desk::over(tables);
        tables.sql("INSERT INTO hashes (id, f) VALUES (2, 'mine')");
        tables.sql("INSERT INTO hashes (id, f, ends) VALUES (3, 'over', '2020-01-01 00:00:00')");
        let records = [
            foreign("h:1", hash(&[("f", "a"), ("n", "1"), ("extra", "e")])),
            foreign("h:2", hash(&[("f", "theirs")])),
            foreign("h:3", hash(&[("f", "new"), ("kind", "odd")]).living(Some(3_600_000))),
            foreign("h:4", hash(&[("n", "no number")])),
            foreign("h:5", hash(&[("f", "b")])),
        ];
        let told = words(&desk.adopt("h:", &records));
        assert_eq!((&*told[0], &*told[1], &*told[2], &*told[4]), ("inserted", "there", "inserted", "inserted"));
        assert!(told[3].contains("the field 'n' cannot be written"), "{told:?}");
        assert_eq!(words(&desk.adopt("h:", &records))[..3], ["there", "there", "there"]);
        let shown = "SELECT id, f, coalesce(CAST(n AS TEXT), '-'), kind, ends IS NULL FROM hashes ORDER BY id";
        let yes = if matches!(tables, Tables::Sqlite(_)) { ["1", "0"] } else { ["t", "f"] };
        let [is_null, is_not] = yes;
        let rows =
            format!("1|a|1|plain|{is_null}\n2|mine|7|plain|{is_null}\n3|new|-|odd|{is_not}\n5|b|-|plain|{is_null}");
        assert_eq!(tables.sql(shown), rows, "what a key has not is NULL, where it can be");
        let keys: [&[u8]; 2] = [b"h:1", b"h:4"];
        let read = desk.runtime.block_on(desk.store.records(&desk.plan("h:"), &keys)).expect("it answers");
        let expected = hash(&[("f", "a"), ("n", "1"), ("extra", "e"), ("kind", "plain")]);
        assert!(Record::same(read[0].as_ref().expect("a record"), &expected), "{read:?}");
        assert!(read[1].is_none());
    });
}

#[test]
fn strings_sets_and_lists_are_inserted_once() {
    each_store(|tables| {
        let desk = Desk::over(tables);
        tables.sql("INSERT INTO members VALUES (2, 'mine'); INSERT INTO elements (id, v) VALUES (2, 'mine');");
        tables.sql("INSERT INTO strings VALUES ('two', 'mine')");
        let string = |text: &str| Record::string(text.as_bytes()).expect("a record");
        let strings = [foreign("s:one", string("")), foreign("s:two", string("theirs"))];
        assert_eq!(words(&desk.adopt("s:", &strings)), ["inserted", "there"]);
        let set = |members: &[&str]| Record::set(members).expect("a record");
        let sets =
            [foreign("t:1", set(&["a", "b", "c"])), foreign("t:2", set(&["theirs"])), foreign("t:3", set(&["d"]))];
        assert_eq!(words(&desk.adopt("t:", &sets)), ["inserted", "there", "inserted"]);
        let list = |elements: &[&str]| Record::list(elements).expect("a record");
        let lists = [foreign("l:1", list(&["x", "y", "x"])), foreign("l:2", list(&["theirs"]))];
        assert_eq!(words(&desk.adopt("l:", &lists)), ["inserted", "there"]);
        assert_eq!(tables.sql("SELECT id, v FROM strings ORDER BY id"), "one|\ntwo|mine");
        assert_eq!(tables.sql("SELECT id, v FROM members ORDER BY id, v"), "1|a\n1|b\n1|c\n2|mine\n3|d");
        assert_eq!(tables.sql("SELECT id, v FROM elements ORDER BY id, place"), "1|x\n1|y\n1|x\n2|mine");
    });
}

#[test]
fn what_does_not_fit_is_refused_and_the_rest_goes_in() {
    each_store(|tables| {
        let desk = Desk::over(tables);
        if let Tables::Postgres(_) = tables {
            tables.sql("ALTER TABLE plains ADD CHECK (f <> 'forbidden')");
        }
        let mut records: Vec<Foreign> =
            (0..50).map(|id| foreign(&format!("p:{id}"), hash(&[("f", "a"), ("n", "1")]))).collect();
        records[7].1 = hash(&[("f", "a"), ("unknown", "x")]);
        records[20].1 = hash(&[("n", "99999999999999999999")]);
        records[33].1 = hash(&[("f", "a\0b")]);
        records[40].1 = Record::string(b"x").expect("a record");
        records[41].1 = hash(&[("f", "forbidden")]);
        let told = words(&desk.adopt("p:", &records));
        assert!(told[7].contains("the field 'unknown' cannot be written"), "{}", told[7]);
        assert!(told[20].contains("the field 'n' cannot be written"), "{}", told[20]);
        assert!(told[33].contains("the value is not text"), "{}", told[33]);
        assert!(told[40].contains("another type"), "{}", told[40]);
        let mut refused = vec![7, 20, 33, 40];
        if let Tables::Postgres(_) = tables {
            assert!(told[41].contains("the field 'f' cannot be written: the constraint"), "{}", told[41]);
            refused.push(41);
        }
        let others = told.iter().enumerate().filter(|(at, _)| !refused.contains(at));
        assert!(others.clone().all(|(_, word)| word == "inserted"), "{told:?}");
        assert_eq!(tables.sql("SELECT count(*) FROM plains"), others.count().to_string());
    });
}

#[test]
fn what_was_inserted_is_taken_back_unless_somebody_has_written_to_it() {
    each_store(|tables| {
        let desk = Desk::over(tables);
        let hashes: Vec<Foreign> = (1..=3).map(|id| foreign(&format!("h:{id}"), hash(&[("f", "a")]))).collect();
        let told = inserted(&hashes, desk.adopt("h:", &hashes));
        tables.sql("UPDATE hashes SET f = 'mine' WHERE id = 2");
        if let Tables::Postgres(_) = tables {
            // Written with the same value: it is somebody's all the same.
            tables.sql("UPDATE hashes SET f = f WHERE id = 3");
            assert_eq!(desk.retract("h:", &told), [true, false, false]);
            assert_eq!(tables.sql("SELECT id FROM hashes ORDER BY id"), "2\n3");
        } else {
            assert_eq!(desk.retract("h:", &told), [true, false, true]);
            assert_eq!(tables.sql("SELECT id FROM hashes ORDER BY id"), "2");
        }
        let set = |members: &[&str]| Record::set(members).expect("a record");
        let sets = [foreign("t:1", set(&["a", "b"]))];
        let told = inserted(&sets, desk.adopt("t:", &sets));
        assert_eq!(desk.retract("t:", &told), [true]);
        assert_eq!(tables.sql("SELECT count(*) FROM members"), "0");
        let lists = [foreign("l:1", Record::list(&["x", "y"]).expect("a record"))];
        let told = inserted(&lists, desk.adopt("l:", &lists));
        assert_eq!(desk.retract("l:", &told), [true]);
        assert_eq!(tables.sql("SELECT count(*) FROM elements"), "0");
    });
}

/// Two that insert the same set at the same moment, and a third that takes members out of it, as one that was there.
#[test]
fn a_set_is_inserted_by_one_of_two() {
    let tables = Tables::postgres();
    let desk = Desk::over(&tables);
    let Tables::Postgres(postgres) = &tables else { return };
    let mut other = postgres.session();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('t:{id:int}' || 't:1', 0));";
    other.run(&format!("BEGIN; {lock} INSERT INTO members VALUES (1, 'a'), (1, 'b');"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let set = Record::set(&["a", "b"]).expect("a record");
            words(&desk.adopt("t:", &[foreign("t:1", set)]))
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        crate::support::until("it waits for the other", || tables.sql(waiting) == "1");
        other.run("DELETE FROM members WHERE v = 'a'; COMMIT;");
        assert_eq!(waits.join().expect("it ends"), ["there"]);
    });
    assert_eq!(tables.sql("SELECT v FROM members"), "b", "what was taken out does not come back");
}
