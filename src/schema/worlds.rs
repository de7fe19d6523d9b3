//! Other people's schemas, read from the conformance worlds beside the checkout when they are there.

#![cfg(test)]

use super::{Schema, compile, format};
use crate::model::Limits;
use std::path::{Path, PathBuf};

/// Only what is read here.
#[derive(serde::Deserialize)]
struct ValidationFile {
    schema: String,
}

#[derive(serde::Deserialize)]
struct Scenarios {
    scenarios: Vec<Scenario>,
}

#[derive(serde::Deserialize)]
struct Scenario {
    id: String,
    schema: Option<String>,
    #[serde(default)]
    schema_rejected: bool,
    /// Several outcomes are right.
    #[serde(default)]
    one_of: Vec<String>,
}

/// Says so, loudly, when the worlds are not there.
fn conformance() -> Option<PathBuf> {
    let folder = std::env::var_os("PROCURA_CONFORMANCE").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("NOT TESTED: the conformance worlds are not at {}; set PROCURA_CONFORMANCE", folder.display());
    None
}

/// It compiles; tidied it means the same, and tidying that changes nothing.
fn understood(name: &str, text: &str) -> Schema {
    let compiled =
        |text: &str| compile(text, &Limits::default()).unwrap_or_else(|errors| panic!("{name}: {errors:#?}")).schema;
    let tidy = format(text).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
    assert_eq!(format(&tidy).as_ref(), Ok(&tidy), "{name}");
    let (schema, again) = (compiled(text), compiled(&tidy));
    assert_eq!(again.definitions(), schema.definitions(), "{name}");
    let told = |schema: &Schema| -> Vec<_> {
        let caveats = schema.caveats().iter();
        caveats.map(|caveat| (caveat.name.clone(), caveat.parameters.clone(), caveat.body.clone())).collect()
    };
    assert_eq!(told(&again), told(&schema), "{name}");
    assert_eq!(super::diff(Some(&schema), &again), [], "{name}");
    schema
}

#[test]
fn schemas_of_the_same_language_are_understood() {
    let Some(folder) = conformance() else {
        return;
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("spicedb")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let (mut caveats, mut expiring) = (0, 0);
    for path in &files {
        let file: ValidationFile = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let schema = understood(&path.display().to_string(), &file.schema);
        caveats += usize::from(!schema.caveats().is_empty());
        expiring += usize::from(file.schema.contains("use expiration"));
    }
    println!("{} schemas are understood, {caveats} of them with caveats, {expiring} with expiration", files.len());
    assert!(files.len() >= 30 && caveats > 0 && expiring > 0, "{}", files.len());
}

#[test]
fn scenarios_are_understood_or_rejected_as_they_say() {
    let Some(folder) = conformance() else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("advisories/scenarios.yaml")).unwrap();
    let scenarios: Scenarios = serde_saphyr::from_str(&text).unwrap();
    for scenario in &scenarios.scenarios {
        let Some(schema) = &scenario.schema else {
            continue;
        };
        let is_rejected = compile(schema, &Limits::default()).is_err();
        if scenario.schema_rejected {
            assert!(is_rejected, "{}", scenario.id);
        } else if !(is_rejected && scenario.one_of.iter().any(|outcome| outcome == "schema_rejected")) {
            understood(&scenario.id, schema);
        }
    }
}
