//! Loading what is on disk into memory, beside everything else: the first answer waits for none of it.

use super::Error;
use super::schemas::InForce;
use crate::graph::Resident;
use crate::model::MemberNum;
use crate::store::Store;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Held where the machine does not say how much it has.
const UNTOLD_BYTES: u64 = 1 << 30;

/// What is resident, and the thread that loads it.
pub(super) struct Loading {
    resident: Arc<Resident>,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Loading {
    /// Loads the hierarchy and the groups first, which every question walks, and then the rest.
    pub(super) fn start(
        resident: Arc<Resident>,
        store: &Arc<Store>,
        in_force: Option<Arc<InForce>>,
    ) -> Result<Loading, Error> {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = match in_force {
            None => None,
            Some(in_force) => {
                let (resident, store, stopping) = (resident.clone(), store.clone(), stopping.clone());
                let load = move || {
                    let stop = || stopping.load(Ordering::Relaxed);
                    let (followed, others) = order(&in_force);
                    let all = [followed.as_slice(), &others].concat();
                    let began = std::time::Instant::now();
                    match resident.load(&store, &all, &followed, &stop) {
                        Ok(()) => {
                            tracing::info!(residency = ?resident.residency(), elapsed = ?began.elapsed(), "relations are in memory");
                        }
                        Err(error) => {
                            tracing::error!(%error, "relations could not be loaded; they are read from the store")
                        }
                    }
                };
                let thread = std::thread::Builder::new().name("loader".to_owned()).spawn(load);
                Some(thread.map_err(|error| Error::from(crate::store::Error::from(error)))?)
            }
        };
        Ok(Loading { resident, stopping, thread: Mutex::new(thread) })
    }

    pub(super) fn resident(&self) -> &Arc<Resident> {
        &self.resident
    }

    /// Ends the loading, and waits for that.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the loader had panicked");
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Relations that lead from one object to another, and all others; permissions among them have no rows.
fn order(in_force: &InForce) -> (Vec<MemberNum>, Vec<MemberNum>) {
    let all = (0..in_force.names.member_count()).filter_map(|at| u32::try_from(at).ok()).map(MemberNum);
    all.partition(|member| in_force.plan.is_followed(*member))
}

/// Half of the memory that this process may use.
pub(super) fn half_of_the_machine() -> u64 {
    let told = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    // What a container may use is said elsewhere than what the machine has.
    let allowed = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let bytes = match (told, allowed) {
        (Some(told), Some(allowed)) => told.min(allowed),
        (told, allowed) => told.or(allowed).unwrap_or(UNTOLD_BYTES),
    };
    bytes / 2
}
