//! An engine on a folder of its own, and the short forms the tests speak in.
//!
//! INVARIANT: each `TestEngine` has a fresh temporary folder, which goes when it goes; nothing is shared between tests.

use procura::engine::{
    CheckOptions, Engine, Error, Info, Kind, Metadata, Options, ReadTuples, Situation, WriteSchema, WriteTuples,
};
use procura::model::{
    Cancel, Consistency, ConsistencyToken, Decision, Limits, Question, RelationTuple, Revision, TupleFilter,
    TupleUpdate, UpdateKind,
};
use std::path::Path;

/// How much of an engine is in memory, and whether its permissions are unfolded: no answer may show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Everything is read from the store.
    Nothing,
    /// So little that most of it is given up again, some relation in the middle of a test.
    Little,
    All,
    /// All, and permissions are walked as they are written.
    AsWritten,
}

impl Held {
    /// `PROCURA_HELD` if it is set; else one or the other, by a text that the test is about.
    pub fn of(text: &str) -> Held {
        match std::env::var("PROCURA_HELD").as_deref() {
            Ok("nothing") => Held::Nothing,
            Ok("little") => Held::Little,
            Ok("all") => Held::All,
            Ok("as-written") => Held::AsWritten,
            Ok(other) => panic!("PROCURA_HELD={other}: nothing, little, all or as-written"),
            Err(_) => {
                let sum: usize = text.bytes().map(usize::from).sum();
                [Held::All, Held::Little, Held::AsWritten, Held::Nothing][sum % 4]
            }
        }
    }

    pub fn options(self, folder: &Path) -> Options {
        let ample = Options::at(folder);
        match self {
            Held::Nothing => Options { memory_bytes_max: 0, ..ample },
            Held::Little => Options { memory_bytes_max: 64 << 10, ..ample },
            Held::All => ample,
            Held::AsWritten => Options { unfolds: false, ..ample },
        }
    }
}

pub struct TestEngine {
    // Declared before the folder: it closes first.
    engine: Option<Engine>,
    limits: Limits,
    held: Held,
    folder: tempfile::TempDir,
}

impl TestEngine {
    pub fn new() -> TestEngine {
        TestEngine::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> TestEngine {
        TestEngine::holding(Held::All, limits)
    }

    pub fn holding(held: Held, limits: Limits) -> TestEngine {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options { limits: limits.clone(), ..held.options(folder.path()) };
        let engine = Some(Engine::open(options).expect("a fresh folder opens"));
        TestEngine { engine, limits, held, folder }
    }

    /// In memory is what the schema's text says, so that all ways are gone by some test.
    pub fn with_schema(text: &str) -> TestEngine {
        let engine = TestEngine::holding(Held::of(text), Limits::default());
        engine.schema(text);
        engine
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Closes it; the folder stays until `reopen` or the end.
    pub fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close();
        }
    }

    pub fn reopen(&mut self) {
        self.reopen_with(self.limits.clone());
    }

    pub fn reopen_with(&mut self, limits: Limits) {
        self.close();
        self.limits = limits;
        let options = Options { limits: self.limits.clone(), ..self.held.options(self.folder.path()) };
        self.engine = Some(Engine::open(options).expect("it opens again"));
    }

    /// State = fold of the changelog, byte for byte.
    pub fn assert_verified(&self) {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        if let Err(error) = self.verify(scratch.path()) {
            panic!("{}", told(&error));
        }
    }

    pub fn schema(&self, text: &str) -> Revision {
        match self.try_schema(text) {
            Ok(revision) => revision,
            Err(error) => panic!("{}\n{text}", told(&error)),
        }
    }

    pub fn try_schema(&self, text: &str) -> Result<Revision, Error> {
        self.write_schema(schema_request(text)).map(|written| written.revision)
    }

    /// Touches tuples given as text, in writes as large as allowed.
    pub fn touch<I: AsRef<str>>(&self, tuples: impl IntoIterator<Item = I>) -> Revision {
        self.touch_parsed(tuples.into_iter().map(|text| tuple(text.as_ref())))
    }

    pub fn touch_parsed(&self, tuples: impl IntoIterator<Item = RelationTuple>) -> Revision {
        let updates: Vec<_> = tuples.into_iter().map(|tuple| TupleUpdate { kind: UpdateKind::Touch, tuple }).collect();
        self.update(updates)
    }

    /// In writes as large as allowed; the last one's revision.
    pub fn update(&self, updates: Vec<TupleUpdate>) -> Revision {
        let mut revision = self.info().revision;
        for part in updates.chunks(self.limits.updates_max) {
            match self.write_tuples(write_request(part.to_vec())) {
                Ok(written) => revision = written,
                Err(error) => panic!("{}", told(&error)),
            }
        }
        revision
    }

    pub fn try_update(&self, kind: UpdateKind, text: &str) -> Result<Revision, Error> {
        self.write_tuples(write_request(vec![update(kind, text)]))
    }

    pub fn decide(&self, question: &str) -> Result<Decision, Error> {
        self.decide_at(question, Consistency::Newest)
    }

    pub fn decide_at(&self, asked: &str, consistency: Consistency) -> Result<Decision, Error> {
        let options = CheckOptions { situation: Situation::at(consistency), ..CheckOptions::default() };
        self.check(&question(asked), &options).map(|found| found.answer.decision)
    }

    #[track_caller]
    pub fn assert_decides(&self, asked: &str, expected: Decision) {
        match self.decide(asked) {
            Ok(decision) => assert_eq!(decision, expected, "{asked}"),
            Err(error) => panic!("{asked}: {}", told(&error)),
        }
    }

    #[track_caller]
    pub fn assert_allows(&self, asked: &str) {
        self.assert_decides(asked, Decision::Allow);
    }

    #[track_caller]
    pub fn assert_denies(&self, asked: &str) {
        self.assert_decides(asked, Decision::Deny);
    }

    /// Every tuple that matches, as text, in the order read.
    pub fn read(&self, filter: TupleFilter) -> Vec<String> {
        read(self, filter)
    }

    /// Everything stored, sorted.
    pub fn everything(&self) -> Vec<String> {
        let mut all = self.read(TupleFilter::default());
        all.sort();
        all
    }

    /// What the engine says of itself, which is no error in a test.
    pub fn info(&self) -> Info {
        Engine::info(self).expect("what it is")
    }

    pub fn token_now(&self) -> ConsistencyToken {
        self.token(self.info().revision)
    }
}

impl std::ops::Deref for TestEngine {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        self.engine.as_ref().expect("it is open")
    }
}

/// Every tuple of an engine that matches, as text, in the order read.
pub fn read(engine: &Engine, filter: TupleFilter) -> Vec<String> {
    let request = ReadTuples { filter, consistency: Consistency::Newest, cursor: None };
    let mut reader = engine.read_tuples(request, &Cancel::default()).expect("a reader");
    let mut found = Vec::new();
    loop {
        let page = reader.next_page(1_000, &Cancel::default()).expect("a page");
        if page.is_empty() {
            return found;
        }
        found.extend(page.into_iter().map(|row| row.tuple.to_string()));
    }
}

pub fn open(folder: &Path, limits: Limits) -> Result<Engine, Error> {
    Engine::open(Options { limits, ..Options::at(folder) })
}

pub fn schema_request(text: &str) -> WriteSchema {
    WriteSchema { text: text.to_owned(), expected_digest: None, dry_run: false, metadata: Metadata::new() }
}

pub fn write_request(updates: Vec<TupleUpdate>) -> WriteTuples {
    WriteTuples { updates, preconditions: Vec::new(), metadata: Metadata::new() }
}

#[track_caller]
pub fn tuple(text: &str) -> RelationTuple {
    text.parse().unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

#[track_caller]
pub fn update(kind: UpdateKind, text: &str) -> TupleUpdate {
    TupleUpdate { kind, tuple: tuple(text) }
}

/// `object#permission@subject`, which reads like a tuple's key.
#[track_caller]
pub fn question(text: &str) -> Question {
    let key = tuple(text).key;
    Question { object: key.object, permission: key.relation, subject: key.subject }
}

/// An error with all that helps to understand a failing test.
pub fn told(error: &Error) -> String {
    let mut text = format!("{:?} {}: {}", error.kind, error.reason, error.message);
    for diagnostic in &error.diagnostics {
        text.push('\n');
        text.push_str(&diagnostic.rendered);
    }
    if let Some(detail) = &error.detail {
        text.push_str("\ndetail: ");
        text.push_str(detail);
    }
    text
}

/// The error, which must be of one of the kinds, and say something a caller may see.
#[track_caller]
pub fn refused<V>(result: Result<V, Error>, kinds: &[Kind]) -> Error {
    match result {
        Ok(_) => panic!("accepted; one of {kinds:?} was due"),
        Err(error) => {
            assert!(kinds.contains(&error.kind), "one of {kinds:?} was due: {}", told(&error));
            assert!(!error.message.is_empty() && !error.message.ends_with('.'), "{}", told(&error));
            let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(!error.reason.is_empty() && error.reason.chars().all(upper), "{}", told(&error));
            error
        }
    }
}
