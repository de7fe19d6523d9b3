//! Who stands across from whom: of each object of a type, the numbers of those that rows connect it with. One such table a
//! relation, subject form and direction.
//!
//! ```text
//! pages   one for 64 neighbouring objects: which of them have any (64 bits), and of each that has, a slot
//! slot    one number, or two, in place; or the place of more of them
//! more    a sorted array; beyond a thousand a tree, so that a change stays cheap
//! ```
//! INVARIANT: what is given is ascending and without repeats. An object with no slot has none.

use std::collections::{BTreeSet, btree_set};
use std::ops::Bound;

/// From here on a tree.
const SORTED_MAX: usize = 1_024;
/// Numbers below it fit two in a slot.
const HALF: u32 = 1 << 31;
/// What a tree takes for each number, about.
const TREE_BYTES: u64 = 10;

/// A table of one direction.
#[derive(Default)]
pub struct Postings {
    pages: Vec<Page>,
    more: Vec<More>,
    /// Places in `more` that are free again.
    free: Vec<u32>,
    bytes: u64,
    /// Objects that have any.
    keys: u64,
}

#[derive(Default)]
struct Page {
    present: u64,
    slots: Vec<Slot>,
}

enum More {
    Sorted(Vec<u32>),
    Tree(BTreeSet<u32>),
}

/// Two bits of what it is, and 62 of it.
#[derive(Clone, Copy)]
struct Slot(u64);

enum Content {
    One(u32),
    Two(u32, u32),
    More(u32),
}

impl Slot {
    fn of(content: Content) -> Slot {
        Slot(match content {
            Content::One(number) => u64::from(number),
            Content::Two(first, second) => 1 << 62 | u64::from(first) << 31 | u64::from(second),
            Content::More(place) => 2 << 62 | u64::from(place),
        })
    }

    fn content(self) -> Content {
        #[expect(clippy::cast_possible_truncation, reason = "the bits below are what was put there")]
        let low = |bits: u64| bits as u32;
        match self.0 >> 62 {
            0 => Content::One(low(self.0)),
            1 => Content::Two(low(self.0 >> 31 & u64::from(HALF - 1)), low(self.0 & u64::from(HALF - 1))),
            _ => Content::More(low(self.0)),
        }
    }
}

/// The numbers across from one object.
#[derive(Clone, Copy)]
pub enum Few<'a> {
    None,
    One(u32),
    Two(u32, u32),
    Sorted(&'a [u32]),
    Tree(&'a BTreeSet<u32>),
}

impl<'a> Few<'a> {
    /// Whether the number is among them.
    #[must_use]
    pub fn contains(self, number: u32) -> bool {
        match self {
            Few::None => false,
            Few::One(one) => one == number,
            Few::Two(first, second) => first == number || second == number,
            Few::Sorted(sorted) => sorted.binary_search(&number).is_ok(),
            Few::Tree(tree) => tree.contains(&number),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Few::None => 0,
            Few::One(_) => 1,
            Few::Two(..) => 2,
            Few::Sorted(sorted) => sorted.len(),
            Few::Tree(tree) => tree.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Few::None)
    }

    /// Those behind a number, ascending; all of them without one.
    pub fn after(self, after: Option<u32>) -> FewIter<'a> {
        let is_behind = |number: &u32| after.is_none_or(|after| *number > after);
        match self {
            Few::None => FewIter::Inline(None, None),
            Few::One(one) => FewIter::Inline(Some(one).filter(is_behind), None),
            Few::Two(first, second) => FewIter::Inline(Some(first).filter(is_behind), Some(second).filter(is_behind)),
            Few::Sorted(sorted) => {
                let from = after.map_or(0, |after| sorted.partition_point(|number| *number <= after));
                FewIter::Sorted(sorted.get(from..).unwrap_or_default().iter())
            }
            Few::Tree(tree) => {
                FewIter::Tree(tree.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)))
            }
        }
    }
}

/// Those of a [`Few`], ascending.
pub enum FewIter<'a> {
    Inline(Option<u32>, Option<u32>),
    Sorted(std::slice::Iter<'a, u32>),
    Tree(btree_set::Range<'a, u32>),
}

impl Iterator for FewIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            FewIter::Inline(first, second) => first.take().or_else(|| second.take()),
            FewIter::Sorted(sorted) => sorted.next().copied(),
            FewIter::Tree(tree) => tree.next().copied(),
        }
    }
}

/// The page of an object and its bit there.
fn place(object: u32) -> (usize, u64) {
    ((object / 64) as usize, 1 << (object % 64))
}

impl Page {
    /// Where the slot of a bit stands, whether it is there or not.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }
}

impl Postings {
    /// Who stands across from an object.
    #[must_use]
    pub fn of(&self, object: u32) -> Few<'_> {
        let (page, bit) = place(object);
        let Some(page) = self.pages.get(page) else { return Few::None };
        if page.present & bit == 0 {
            return Few::None;
        }
        let Some(slot) = page.slots.get(page.rank(bit)) else { return Few::None };
        match slot.content() {
            Content::One(one) => Few::One(one),
            Content::Two(first, second) => Few::Two(first, second),
            Content::More(place) => match self.more.get(place as usize) {
                Some(More::Sorted(sorted)) => Few::Sorted(sorted),
                Some(More::Tree(tree)) => Few::Tree(tree),
                None => Few::None,
            },
        }
    }

    /// How many objects have any.
    pub(super) fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + (self.pages.capacity() * size_of::<Page>() + self.more.capacity() * size_of::<More>()) as u64
    }

    /// Connects an object with a number.
    pub(super) fn insert(&mut self, object: u32, number: u32) {
        let (at, bit) = place(object);
        if self.pages.len() <= at {
            self.pages.resize_with(at + 1, Page::default);
        }
        let Postings { pages, more: all, free, bytes, keys } = self;
        let Some(page) = pages.get_mut(at) else { return };
        let rank = page.rank(bit);
        if page.present & bit == 0 {
            page.present |= bit;
            let before = page.slots.capacity();
            page.slots.insert(rank, Slot::of(Content::One(number)));
            *bytes += ((page.slots.capacity() - before) * size_of::<Slot>()) as u64;
            *keys += 1;
            return;
        }
        let Some(slot) = page.slots.get_mut(rank) else { return };
        match slot.content() {
            Content::One(one) if one == number => {}
            Content::One(one) => {
                let (first, second) = (one.min(number), one.max(number));
                if second < HALF {
                    *slot = Slot::of(Content::Two(first, second));
                } else {
                    *slot = Slot::of(Content::More(put(all, free, bytes, vec![first, second])));
                }
            }
            Content::Two(first, second) if first == number || second == number => {}
            Content::Two(first, second) => {
                let mut sorted = vec![first, second, number];
                sorted.sort_unstable();
                *slot = Slot::of(Content::More(put(all, free, bytes, sorted)));
            }
            Content::More(place) => {
                if let Some(more) = all.get_mut(place as usize) {
                    let before = more.bytes();
                    more.insert(number);
                    *bytes = (*bytes + more.bytes()).saturating_sub(before);
                }
            }
        }
    }

    /// Ends the connection of an object with a number.
    pub(super) fn remove(&mut self, object: u32, number: u32) {
        let (at, bit) = place(object);
        let Some(page) = self.pages.get_mut(at).filter(|page| page.present & bit != 0) else { return };
        let rank = page.rank(bit);
        let Some(slot) = page.slots.get_mut(rank) else { return };
        match slot.content() {
            Content::One(one) if one == number => {
                page.slots.remove(rank);
                page.present &= !bit;
                self.keys = self.keys.saturating_sub(1);
            }
            Content::One(_) => {}
            Content::Two(first, second) if first == number => *slot = Slot::of(Content::One(second)),
            Content::Two(first, second) if second == number => *slot = Slot::of(Content::One(first)),
            Content::Two(..) => {}
            Content::More(place) => {
                let Some(more) = self.more.get_mut(place as usize) else { return };
                let before = more.bytes();
                more.remove(number);
                self.bytes = (self.bytes + more.bytes()).saturating_sub(before);
                if let More::Sorted(sorted) = more
                    && let [one] = sorted.as_slice()
                {
                    *slot = Slot::of(Content::One(*one));
                    self.bytes = self.bytes.saturating_sub(more.bytes());
                    *more = More::Sorted(Vec::new());
                    self.free.push(place);
                }
            }
        }
    }
}

/// A place for more than fit a slot.
fn put(all: &mut Vec<More>, free: &mut Vec<u32>, bytes: &mut u64, sorted: Vec<u32>) -> u32 {
    let more = More::Sorted(sorted);
    *bytes += more.bytes();
    match free.pop() {
        Some(place) => {
            if let Some(free) = all.get_mut(place as usize) {
                *free = more;
            }
            place
        }
        None => {
            all.push(more);
            // There are no more of them than objects, which have numbers of 32 bits.
            u32::try_from(all.len() - 1).unwrap_or(u32::MAX)
        }
    }
}

impl More {
    fn insert(&mut self, number: u32) {
        match self {
            More::Sorted(sorted) => {
                let Err(at) = sorted.binary_search(&number) else { return };
                if sorted.len() < SORTED_MAX {
                    sorted.insert(at, number);
                    return;
                }
                let mut tree: BTreeSet<u32> = sorted.iter().copied().collect();
                tree.insert(number);
                *self = More::Tree(tree);
            }
            More::Tree(tree) => {
                tree.insert(number);
            }
        }
    }

    /// A tree that has shrunk well below where it began is an array again.
    fn remove(&mut self, number: u32) {
        match self {
            More::Sorted(sorted) => {
                if let Ok(at) = sorted.binary_search(&number) {
                    sorted.remove(at);
                }
            }
            More::Tree(tree) => {
                tree.remove(&number);
                if tree.len() < SORTED_MAX / 2 {
                    *self = More::Sorted(tree.iter().copied().collect());
                }
            }
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            More::Sorted(sorted) => (sorted.capacity() * size_of::<u32>()) as u64,
            More::Tree(tree) => tree.len() as u64 * TREE_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn agrees(postings: &Postings, expected: &BTreeMap<u32, BTreeSet<u32>>, objects: impl Iterator<Item = u32>) {
        for object in objects {
            let none = BTreeSet::new();
            let expected = expected.get(&object).unwrap_or(&none);
            let found = postings.of(object);
            assert_eq!(found.len(), expected.len());
            assert_eq!(found.is_empty(), expected.is_empty());
            assert!(found.after(None).eq(expected.iter().copied()), "of {object}");
            for number in expected.iter().flat_map(|number| [*number, number.wrapping_add(1)]) {
                assert_eq!(found.contains(number), expected.contains(&number));
                assert!(
                    found.after(Some(number)).eq(expected.range((Bound::Excluded(number), Bound::Unbounded)).copied())
                );
            }
        }
        let keys = expected.values().filter(|numbers| !numbers.is_empty()).count() as u64;
        assert_eq!(postings.keys(), keys);
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_and_not_removed(
            steps in proptest::collection::vec((any::<bool>(), 0..140_u32, prop_oneof![0..6_u32, (HALF - 2)..(HALF + 2)]), 0..400)
        ) {
            let mut postings = Postings::default();
            let mut expected: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
            for (put, object, number) in steps {
                if put {
                    postings.insert(object, number);
                    expected.entry(object).or_default().insert(number);
                } else {
                    postings.remove(object, number);
                    expected.entry(object).or_default().remove(&number);
                }
            }
            agrees(&postings, &expected, 0..200);
        }
    }

    #[test]
    fn many_are_a_tree_and_fewer_an_array_again() {
        let mut postings = Postings::default();
        let mut expected: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for number in (0..3_000).rev() {
            postings.insert(7, number * 2);
            expected.entry(7).or_default().insert(number * 2);
        }
        assert!(matches!(postings.of(7), Few::Tree(_)));
        agrees(&postings, &expected, 6..9);
        let full = postings.bytes();
        for number in 1..3_000 {
            postings.remove(7, number * 2);
            expected.entry(7).or_default().remove(&(number * 2));
        }
        agrees(&postings, &expected, 6..9);
        assert!(matches!(postings.of(7), Few::One(0)));
        assert!(postings.bytes() < full / 10, "{} of {full}", postings.bytes());
        // Its place is taken again.
        for number in 0..5 {
            postings.insert(9, number);
        }
        assert_eq!(postings.more.len(), 1);
    }
}
