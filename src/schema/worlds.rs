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

/// The schema, unless it needs what is to come; any other error is a failure.
fn understood(name: &str, text: &str) -> Option<Schema> {
    let tidy = format(text).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
    assert_eq!(format(&tidy).as_ref(), Ok(&tidy), "{name}");
    match compile(text, &Limits::default()) {
        Ok(compiled) => {
            let again =
                compile(&tidy, &Limits::default()).unwrap_or_else(|errors| panic!("{name}: {errors:#?}")).schema;
            assert_eq!(again.definitions(), compiled.schema.definitions(), "{name}");
            Some(compiled.schema)
        }
        Err(errors) => {
            let others: Vec<_> = errors.iter().filter(|error| error.name != "not-supported").collect();
            assert!(others.is_empty(), "{name}: {others:#?}");
            None
        }
    }
}

#[test]
fn schemas_of_the_same_language_are_understood() {
    let Some(folder) = conformance() else {
        return;
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("spicedb")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut understood_count = 0;
    for path in &files {
        let file: ValidationFile = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        if understood(&path.display().to_string(), &file.schema).is_some() {
            understood_count += 1;
        }
    }
    println!("{understood_count} of {} schemas are understood; the others need what is to come", files.len());
    assert!(files.len() >= 30 && understood_count >= 25, "{understood_count} of {}", files.len());
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
