//! The engine in process, without a server: `cargo run --example embedded`.

use procura::engine::{CheckOptions, Engine, Metadata, Options, Situation, WriteSchema, WriteTuples};
use procura::model::{Consistency, Question, RelationTuple, TupleKey, TupleUpdate, UpdateKind};
use std::error::Error;

const SCHEMA: &str = "
definition user {}

definition folder {
  relation parent: folder
  relation viewer: user
  permission view = viewer + parent->view
}

definition document {
  relation folder: folder
  relation author: user
  permission view = author + folder->view
  permission edit = author
}
";

const TUPLES: &[&str] = &[
    "folder:handbook#parent@folder:company",
    "folder:company#viewer@user:rita",
    "document:welcome#folder@folder:handbook",
    "document:welcome#author@user:dana",
];

const QUESTIONS: &[&str] = &[
    "document:welcome#view@user:dana",
    "document:welcome#edit@user:dana",
    "document:welcome#view@user:rita",
    "document:welcome#edit@user:rita",
    "document:welcome#view@user:omar",
];

fn main() -> Result<(), Box<dyn Error>> {
    // A real program keeps its folder: what was acknowledged is there after a restart.
    let data = tempfile::tempdir()?;
    let engine = Engine::open(Options::at(data.path()))?;

    let schema = engine.write_schema(WriteSchema {
        text: SCHEMA.to_owned(),
        expected_digest: None,
        dry_run: false,
        metadata: Metadata::new(),
    })?;
    println!("schema {} written at revision {}", &schema.digest[..12], schema.revision);

    let mut updates = Vec::new();
    for text in TUPLES {
        updates.push(TupleUpdate { kind: UpdateKind::Touch, tuple: text.parse::<RelationTuple>()? });
    }
    let revision =
        engine.write_tuples(WriteTuples { updates, preconditions: Vec::new(), metadata: Metadata::new() })?;
    println!("{} tuples written at revision {revision}", TUPLES.len());

    // The token makes sure that an answer has seen the write, wherever it is asked.
    let consistency = Consistency::AtLeastAsFresh(engine.token(revision));
    let options = CheckOptions { situation: Situation::at(consistency), ..CheckOptions::default() };
    for text in QUESTIONS {
        let TupleKey { object, relation, subject } = text.parse()?;
        let answered = engine.check(&Question { object, permission: relation, subject }, &options)?;
        println!("{:<5} {text}", answered.answer.decision.as_str());
    }

    // Also on drop; said here so that nobody wonders.
    engine.close();
    Ok(())
}
