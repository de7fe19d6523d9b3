//! Floor 3: the questions. `check` is THE definition of what it means to have a permission; every other question is it,
//! asked in another way.
//!
//! The walk answers about one subject. It knows nothing of callers or of acting for another, so it cannot be tricked
//! by who asks.

mod check;
mod climb;
mod budget;
mod memo;
mod trail;
mod reasons;
mod residue;
mod ancestors;
mod list_resources;
mod list_subjects;
mod expand;
mod explain;
mod near_misses;

pub use ancestors::{Beneath, Heights, ancestors, subtree};
pub use budget::{Budget, Error, Failure};
pub use check::{Asked, Asker, Found, Together, Worth, check, check_together};
pub use expand::{Extent, Structure, expand};
pub use explain::{Explanation, Part, Reasoned, Room, proof, tried};
pub use list_resources::{Reached, resources_reached};
pub use list_subjects::{Mentioned, SubjectForm, naming_relations, subjects_mentioned};
pub use memo::Node;
pub use near_misses::{Nearby, Search, near_misses};
pub use trail::TrailStep;
