//! What a folder is worth: a restart keeps everything, one engine holds it at a time, a newer format is refused.

use crate::caveats::Given;
use crate::engines::{TestEngine, open, refused, told};
use crate::worlds::{Fails, Rng, START, World, decision, seed};
use procura::engine::{CheckOptions, Engine, Kind};
use procura::model::{Consistency, Limits};

const SCHEMA: &str = "definition user {}\ndefinition doc {\n  relation viewer: user\n  permission view = viewer\n}\n";

/// Kinds an operator meets when a folder cannot be opened.
const CANNOT_OPEN: [Kind; 4] = [Kind::FailedPrecondition, Kind::Unavailable, Kind::Internal, Kind::DataLoss];

#[test]
fn a_restart_keeps_everything() {
    let seed = seed("a_restart_keeps_everything");
    let mut rng = Rng::new(seed);
    let mut world = World::lasting(&mut rng, "w");
    let schema = world.schema.print();
    let mut engine = TestEngine::with_schema(&schema);
    engine.touch_parsed(world.relation_tuples().collect::<Vec<_>>());
    for round in 0..8 {
        let before = (engine.info().revision, engine.info().schema_digest, engine.info().database);
        engine.reopen();
        assert_eq!(
            (engine.info().revision, engine.info().schema_digest, engine.info().database),
            before,
            "round {round}"
        );
        assert_eq!(engine.read_schema(Consistency::Newest).unwrap().text, schema);
        let mut due: Vec<String> = world.relation_tuples().map(|tuple| tuple.to_string()).collect();
        due.sort();
        assert_eq!(engine.everything(), due, "seed {seed} round {round}");
        for subject in world.some_subjects(&mut rng, 6) {
            for (asked, due) in world.due(subject, &Given::new(), START) {
                // A condition that fails is an error; what that looks like is compared elsewhere.
                let Ok(found) = engine.check(&world.question(asked), &CheckOptions::default()) else {
                    assert_ne!(due.fails, Fails::Never, "seed {seed} round {round} {asked:?}\n{}", world.told());
                    continue;
                };
                assert_eq!(
                    found.answer.decision,
                    decision(due.truth),
                    "seed {seed} round {round} {asked:?}\n{}",
                    world.told()
                );
            }
        }
        engine.assert_verified();
        engine.update(world.random_changes(&mut rng, START));
    }
}

#[test]
fn dropping_an_engine_closes_it_too() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let engine = open(folder.path(), Limits::default()).unwrap_or_else(|error| panic!("{round}: {}", told(&error)));
        assert_eq!(engine.info().unwrap().revision.0, 0, "opening writes no revision");
    }
}

#[test]
fn a_closed_engine_takes_no_writes() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:1#viewer@user:rita"]);
    Engine::close(&engine);
    let result = engine.try_update(procura::model::UpdateKind::Touch, "doc:2#viewer@user:rita");
    refused(result, &[Kind::Unavailable, Kind::FailedPrecondition]);
    // Closing again is no error.
    Engine::close(&engine);
}

#[test]
fn the_same_folder_twice_is_refused() {
    let engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:1#viewer@user:rita"]);
    let error = refused(open(engine.folder(), Limits::default()).map(drop), &CANNOT_OPEN[..2]);
    let said = format!("{} {:?}", error.message, error.hint);
    assert!(["open", "use", "lock"].iter().any(|word| said.contains(word)), "unclear: {said}");
    // The first is none the worse for it.
    engine.assert_allows("doc:1#view@user:rita");
    engine.touch(["doc:2#viewer@user:rita"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for path in [file.clone(), file.join("below")] {
        let mut kinds = CANNOT_OPEN.to_vec();
        kinds.extend([Kind::InvalidArgument, Kind::NotFound]);
        refused(open(&path, Limits::default()).map(drop), &kinds);
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "not a folder");
}

/// Raises the format's number in `meta` by hand, as a later build would have written it.
#[test]
fn a_newer_format_is_refused() {
    let mut engine = TestEngine::with_schema(SCHEMA);
    engine.touch(["doc:1#viewer@user:rita"]);
    engine.close();
    // RocksDB lies in the folder itself or in one below it.
    let below = std::fs::read_dir(engine.folder()).unwrap().map(|entry| entry.unwrap().path());
    let place = below
        .chain([engine.folder().to_owned()])
        .find(|path| path.join("CURRENT").is_file())
        .expect("a RocksDB in the folder");
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, &place).unwrap();
    let original = {
        let db = rocksdb::DB::open_cf(&options, &place, &families).unwrap();
        let meta = db.cf_handle("meta").expect("the family `meta`");
        let rows: Vec<_> = db.iterator_cf(&meta, rocksdb::IteratorMode::Start).map(Result::unwrap).collect();
        let is_format = |key: &[u8]| String::from_utf8_lossy(key).contains("format");
        let mut formats = rows.into_iter().filter(|(key, _)| is_format(key));
        let (key, value) = formats.next().expect("a key that says `format`");
        assert!(formats.next().is_none(), "one format");
        let mut newer = value.to_vec();
        *newer.last_mut().expect("a number") += 1;
        let mut sync = rocksdb::WriteOptions::default();
        sync.set_sync(true);
        db.put_cf_opt(&meta, &key, &newer, &sync).unwrap();
        (key, value)
    };
    let error = refused(open(engine.folder(), Limits::default()).map(drop), &CANNOT_OPEN);
    assert!(format!("{} {:?}", error.message, error.hint).contains("format"), "unclear: {}", told(&error));
    // With the number put back everything is there: the refusal touched nothing.
    {
        let db = rocksdb::DB::open_cf(&options, &place, &families).unwrap();
        let meta = db.cf_handle("meta").expect("the family `meta`");
        db.put_cf(&meta, &original.0, &original.1).unwrap();
    }
    engine.reopen();
    engine.assert_allows("doc:1#view@user:rita");
}
