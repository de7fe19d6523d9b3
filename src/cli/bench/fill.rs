//! Brings a world into a server: its schema, all tuples, its delegations.

use super::ready::{Ids, tuple};
use super::worlds::{Deputy, World};
use crate::api::client::{At, Client, DelegationsOf, NewDelegation, PageAt};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::engine::{DelegationEnd, ImportMode, Metadata};
use crate::model::RelationTuple;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Tuples in one step of the import.
const BATCH: usize = 5_000;
/// Batches made before they are wanted.
const BATCHES_AHEAD: usize = 4;
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long the delegations last: longer than any run.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// What was brought.
pub struct Filled {
    pub tuples: u64,
    pub took: Duration,
    pub ids: Ids,
}

/// Brings all of it. The server must be empty.
pub fn fill(client: &Client, world: &dyn World, output: &mut Output) -> Result<Filled, Failure> {
    if client.server_info()?.schema_digest.is_some() {
        return Err(Failure::new(Exit::Refused, "the server is not empty: it has a schema")
            .with_hint("give a fresh one, or say --loaded where it holds just this world"));
    }
    let began = Instant::now();
    client.write_schema(world.schema(), None, false, &Metadata::new())?;
    let (batches, received) = sync_channel(BATCHES_AHEAD);
    let (mut tuples, mut told) = (0_u64, began);
    let (imported, given) = std::thread::scope(|scope| {
        let giving = scope.spawn(move || give(world, &batches));
        // Of the batches on their way, in order.
        let lengths = RefCell::new(VecDeque::new());
        let imported = client.import_tuples(
            ImportMode::Touch,
            &Metadata::new(),
            &mut || {
                let batch: Vec<RelationTuple> = received.recv().ok()?;
                lengths.borrow_mut().push_back(batch.len() as u64);
                Some(batch)
            },
            &mut |_| {
                tuples += lengths.borrow_mut().pop_front().unwrap_or(0);
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let rate = tuples as f64 / began.elapsed().as_secs_f64();
                    output.note(format_args!("  {tuples} tuples, {rate:.0} a second"));
                }
            },
        );
        // Whoever still gives is told that nobody takes any more.
        drop(received);
        (imported, giving.join())
    });
    imported?;
    match given {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Failure::new(Exit::Refused, format!("the world could not be made: {error}"))),
        Err(_) => return Err(Failure::new(Exit::Refused, "the world could not be made: it panicked")),
    }
    let ids = delegate(client, &world.deputies(), output)?;
    Ok(Filled { tuples, took: began.elapsed(), ids })
}

/// Gives all tuples in batches, until nobody takes them.
fn give(world: &dyn World, batches: &SyncSender<Vec<RelationTuple>>) -> io::Result<()> {
    let gone = |_| io::Error::other("nobody takes the tuples any more");
    let mut batch = Vec::with_capacity(BATCH);
    let mut text = String::new();
    world.tuples(&mut |line| {
        text.clear();
        write!(text, "{line}").map_err(io::Error::other)?;
        batch.push(tuple(&text).map_err(io::Error::other)?);
        if batch.len() == BATCH {
            batches.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).map_err(gone)?;
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        batches.send(batch).map_err(gone)?;
    }
    Ok(())
}

/// Makes the delegations. Each bears its name as its purpose, so that it is found again.
fn delegate(client: &Client, deputies: &[Deputy], output: &mut Output) -> Result<Ids, Failure> {
    let mut ids = Ids::new();
    let mut told = Instant::now();
    for deputy in deputies {
        let ready = deputy.ready(&ids).map_err(unfit)?;
        let new = NewDelegation {
            parent: ready.parent,
            redelegate: deputy.redelegate,
            purpose: deputy.name.clone(),
            ..NewDelegation::of(ready.from, ready.to, vec![ready.item], DelegationEnd::After(LIFETIME))
        };
        let made = client.create_delegation(&new).map_err(|error| {
            let deep = error.reason == "TOO_DEEP";
            let failure = Failure::from(error);
            if deep { failure.with_hint("start the server with --delegation-depth-max 8") } else { failure }
        })?;
        ids.insert(deputy.name.clone(), made.delegation.id);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            output.note(format_args!("  {} of {} delegations", ids.len(), deputies.len()));
        }
    }
    Ok(ids)
}

/// The delegations of a world that was brought before.
pub fn known(client: &Client, world: &dyn World) -> Result<Ids, Failure> {
    if client.read_schema(&At::Newest)?.text != world.schema() {
        return Err(Failure::new(Exit::Refused, "the server holds another world: its schema is not this one's"));
    }
    let mut ids = Ids::new();
    if world.deputies().is_empty() {
        return Ok(ids);
    }
    let mut page = PageAt { size: Some(1_000), ..PageAt::default() };
    // Ends with the last page.
    loop {
        let found = client.list_delegations(&DelegationsOf::default(), &page)?;
        ids.extend(found.rows.iter().map(|seen| (seen.delegation.purpose.clone(), seen.delegation.id)));
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            return Ok(ids);
        }
    }
}

/// A world gave a text that is none.
pub fn unfit(what: String) -> Failure {
    Failure::new(Exit::Refused, format!("the world does not fit: {what}"))
}
