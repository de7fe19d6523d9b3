//! Reading tuples: filters against a naive filter, cursors at every page size.
//!
//! What always holds: a reader sees one revision; a cursor resumes right after its row, with nothing lost or repeated;
//! a cursor that was changed, or is of another filter or database, is refused.

use crate::engines::{TestEngine, refused, tuple, update};
use crate::worlds::{Rng, World, seed};
use procura::engine::{Kind, ReadTuples};
use procura::model::{
    Cancel, Consistency, RelationTuple, SubjectFilter, SubjectIdFilter, SubjectRef, SubjectRelationFilter, TupleFilter,
    UpdateKind,
};

fn request(filter: &TupleFilter, cursor: Option<String>) -> ReadTuples {
    ReadTuples { filter: filter.clone(), consistency: Consistency::Newest, cursor }
}

/// The filter's meaning, written a second time.
fn matches(filter: &TupleFilter, tuple: &RelationTuple) -> bool {
    let key = &tuple.key;
    let (id, relation) = match &key.subject {
        SubjectRef::Object(object) => (Some(&object.id), None),
        SubjectRef::Userset(object, relation) => (Some(&object.id), Some(relation)),
        SubjectRef::Wildcard(_) => (None, None),
    };
    filter.object_type.as_ref().is_none_or(|wanted| *wanted == key.object.object_type)
        && filter.object_id.as_ref().is_none_or(|wanted| *wanted == key.object.id)
        && filter.relation.as_ref().is_none_or(|wanted| *wanted == key.relation)
        && filter.subject.as_ref().is_none_or(|subject| {
            let id_fits = match &subject.id {
                None => true,
                Some(SubjectIdFilter::Id(wanted)) => id == Some(wanted),
                Some(SubjectIdFilter::Wildcard) => id.is_none(),
            };
            let relation_fits = match &subject.relation {
                SubjectRelationFilter::Any => true,
                SubjectRelationFilter::Plain => relation.is_none(),
                SubjectRelationFilter::Relation(wanted) => relation == Some(wanted),
            };
            subject.subject_type == *key.subject.subject_type() && id_fits && relation_fits
        })
}

/// Parts of a filter taken from one tuple or another, so that most match something and some nothing.
fn random_filter(rng: &mut Rng, tuples: &[RelationTuple]) -> TupleFilter {
    let (left, right) = (&rng.pick(tuples).key.clone(), &rng.pick(tuples).key.clone());
    let right = if rng.chance(60) { left } else { right };
    let mut filter = TupleFilter::exactly(left);
    if rng.chance(25) {
        filter.object_type = None;
    }
    if filter.object_type.is_none() || rng.chance(60) {
        filter.object_id = None;
    }
    if rng.chance(50) {
        filter.relation = None;
    }
    filter.subject = rng.chance(60).then(|| {
        let exact = TupleFilter::exactly(right).subject.expect("an exact filter has a subject");
        SubjectFilter {
            id: if rng.chance(50) { exact.id } else { None },
            relation: match rng.below(3) {
                0 => SubjectRelationFilter::Any,
                1 => SubjectRelationFilter::Plain,
                _ => exact.relation,
            },
            subject_type: exact.subject_type,
        }
    });
    filter
}

#[test]
fn filters_match_what_the_naive_filter_matches() {
    let seed = seed("filters_match_what_the_naive_filter_matches");
    let (mut matched, mut asked) = (0, 0);
    for n in 0..6 {
        let mut rng = Rng::part(seed, n);
        let worlds: Vec<World> = (0..5).map(|w| World::lasting(&mut rng, &format!("w{w}"))).collect();
        let schema: String = worlds.iter().map(|world| world.schema.print_body()).collect();
        let engine = TestEngine::with_schema(&format!("use self\n{schema}"));
        let tuples: Vec<RelationTuple> = worlds.iter().flat_map(World::relation_tuples).collect();
        engine.touch_parsed(tuples.iter().cloned());
        for _ in 0..200 {
            let filter = random_filter(&mut rng, &tuples);
            let mut due: Vec<String> =
                tuples.iter().filter(|tuple| matches(&filter, tuple)).map(ToString::to_string).collect();
            let mut found = engine.read(filter.clone());
            due.sort();
            found.sort();
            assert_eq!(found, due, "seed {seed} part {n}: {filter:?}");
            matched += usize::from(!due.is_empty());
            asked += 1;
        }
    }
    println!("{matched} of {asked} filters matched something");
    assert!(matched * 2 > asked && matched < asked);
}

const SCHEMA: &str = "definition user {}
definition doc {
  relation viewer: user | user:* | doc#viewer
  relation editor: user
}";

fn many() -> TestEngine {
    let engine = TestEngine::with_schema(SCHEMA);
    // Written out of order: the order read is the engine's.
    let mut tuples: Vec<String> = (0..20)
        .flat_map(|n| {
            let doc = n % 5;
            [
                format!("doc:{doc}#viewer@user:u{n}"),
                format!("doc:{n}#viewer@doc:{doc}#viewer"),
                format!("doc:{n}#editor@user:u{doc}"),
            ]
        })
        .chain((0..4).map(|n| format!("doc:{n}#viewer@user:*")))
        .collect();
    Rng::new(5).shuffle(&mut tuples);
    engine.touch(&tuples);
    engine
}

/// Reads by pages of a size, each page by a new reader from the last row's cursor.
fn paged(engine: &TestEngine, filter: &TupleFilter, size: usize) -> Vec<String> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = engine
            .read_tuples(request(filter, cursor.clone()), &Cancel::default())
            .unwrap()
            .next_page(size, &Cancel::default())
            .unwrap();
        assert!(page.len() <= size);
        let Some(last) = page.last() else { return rows };
        cursor = Some(last.cursor.clone());
        rows.extend(page.iter().map(|row| row.tuple.to_string()));
    }
}

#[test]
fn a_cursor_resumes_at_every_page_size() {
    let engine = many();
    let all = engine.read(TupleFilter::default());
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (64, 64));
    let of_doc_1 = TupleFilter {
        object_id: Some("1".parse().unwrap()),
        object_type: Some("doc".parse().unwrap()),
        ..TupleFilter::default()
    };
    let editors = TupleFilter { relation: Some("editor".parse().unwrap()), ..TupleFilter::default() };
    let of_u3 = TupleFilter {
        subject: TupleFilter::exactly(&tuple("doc:1#viewer@user:u3").key).subject,
        ..TupleFilter::default()
    };
    for filter in [TupleFilter::default(), of_doc_1, editors, of_u3] {
        let whole = engine.read(filter.clone());
        assert!(!whole.is_empty());
        for size in 1..=whole.len() + 1 {
            assert_eq!(paged(&engine, &filter, size), whole, "pages of {size}: {filter:?}");
        }
        // One reader, page after page, gives the same.
        let mut reader = engine.read_tuples(request(&filter, None), &Cancel::default()).unwrap();
        let mut rows = Vec::new();
        loop {
            let page = reader.next_page(3, &Cancel::default()).unwrap();
            if page.is_empty() {
                break;
            }
            rows.extend(page.into_iter().map(|row| row.tuple.to_string()));
        }
        assert_eq!(rows, whole);
        assert!(reader.next_page(3, &Cancel::default()).unwrap().is_empty(), "an end stays an end");
    }
}

#[test]
fn every_rows_cursor_resumes_right_after_it_over_a_restart() {
    let mut engine = many();
    let rows = engine
        .read_tuples(request(&TupleFilter::default(), None), &Cancel::default())
        .unwrap()
        .next_page(1_000, &Cancel::default())
        .unwrap();
    let all: Vec<String> = rows.iter().map(|row| row.tuple.to_string()).collect();
    engine.reopen();
    for (n, row) in rows.iter().enumerate() {
        let rest = engine
            .read_tuples(request(&TupleFilter::default(), Some(row.cursor.clone())), &Cancel::default())
            .unwrap()
            .next_page(1_000, &Cancel::default())
            .unwrap();
        let rest: Vec<String> = rest.iter().map(|row| row.tuple.to_string()).collect();
        assert_eq!(rest, all[n + 1..], "after row {n}");
    }
}

#[test]
fn a_reader_is_pinned_to_its_revision() {
    let engine = many();
    let all = engine.read(TupleFilter::default());
    let mut reader = engine.read_tuples(request(&TupleFilter::default(), None), &Cancel::default()).unwrap();
    let at = reader.revision();
    let mut rows: Vec<String> = Vec::new();
    for n in 0.. {
        let page = reader.next_page(7, &Cancel::default()).unwrap();
        if page.is_empty() {
            break;
        }
        rows.extend(page.iter().map(|row| row.tuple.to_string()));
        engine.try_update(UpdateKind::Delete, &all[all.len() - 1 - n]).unwrap();
        engine.touch([format!("doc:{n}#editor@user:late")]);
    }
    assert_eq!(rows, all);
    assert_eq!(reader.revision(), at);
}

/// Between pages others write; what did not change is neither missed nor repeated.
#[test]
fn pages_beside_writes_keep_what_did_not_change() {
    let engine = many();
    let mut rng = Rng::new(11);
    let steady: Vec<String> =
        engine.read(TupleFilter::default()).into_iter().filter(|text| !text.contains("#editor@")).collect();
    for size in [1, 2, 3, 5, 8, 13] {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = engine
                .read_tuples(request(&TupleFilter::default(), cursor.clone()), &Cancel::default())
                .unwrap()
                .next_page(size, &Cancel::default())
                .unwrap();
            let Some(last) = page.last() else { break };
            cursor = Some(last.cursor.clone());
            rows.extend(page.iter().map(|row| row.tuple.to_string()));
            let kind = if rng.chance(50) { UpdateKind::Touch } else { UpdateKind::Delete };
            engine.update(vec![update(kind, &format!("doc:{}#editor@user:u{}", rng.below(20), rng.below(9)))]);
        }
        let kept: Vec<String> = rows.iter().filter(|text| !text.contains("#editor@")).cloned().collect();
        assert_eq!(kept, steady, "pages of {size}");
    }
}

#[test]
fn changed_cursors_are_refused() {
    let engine = many();
    let everything = TupleFilter::default();
    let rows = engine
        .read_tuples(request(&everything, None), &Cancel::default())
        .unwrap()
        .next_page(20, &Cancel::default())
        .unwrap();
    let cursor = rows[9].cursor.clone();
    let kinds = [Kind::InvalidArgument, Kind::OutOfRange];
    let refuse = |engine: &TestEngine, filter: &TupleFilter, cursor: &str, why: &str| {
        let result = engine
            .read_tuples(request(filter, Some(cursor.to_owned())), &Cancel::default())
            .and_then(|mut reader| reader.next_page(1, &Cancel::default()));
        assert!(result.is_err(), "{why} was taken: {cursor}");
        refused(result.map(drop), &kinds);
    };
    for at in 0..cursor.len() {
        for with in ['A', 'q', '7', '_'] {
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &with.to_string());
            if changed != cursor {
                refuse(&engine, &everything, &changed, "a changed cursor");
            }
        }
        refuse(&engine, &everything, &cursor[..at], "a cut cursor");
    }
    for nonsense in ["x", "é", "////", &format!("{cursor}A"), &cursor.repeat(2), &"A".repeat(5_000)] {
        refuse(&engine, &everything, nonsense, "nonsense");
    }
    refuse(&many(), &everything, &cursor, "another database's cursor");
    let other = TupleFilter { relation: Some("editor".parse().unwrap()), ..TupleFilter::default() };
    refuse(&engine, &other, &cursor, "another filter's cursor");
    assert!(engine.read_tuples(request(&everything, Some(cursor)), &Cancel::default()).is_ok());
}

#[test]
fn an_object_id_needs_its_type() {
    let engine = many();
    let filter = TupleFilter { object_id: Some("1".parse().unwrap()), ..TupleFilter::default() };
    let result = engine
        .read_tuples(request(&filter, None), &Cancel::default())
        .and_then(|mut reader| reader.next_page(1, &Cancel::default()));
    refused(result.map(drop), &[Kind::InvalidArgument]);
}
