//! Numbers that look random and are the same everywhere: SplitMix64 (Steele, Lea and Flood, 2014).

/// The golden ratio in 64 bits: steps by it visit every number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Every bit of the number bears on every bit of what is returned.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A sequence.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Draw {
        Draw(mixed(seed.wrapping_add(STEP)))
    }

    /// The next, below `end`; 0 where nothing is.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0) % end.max(1)
    }

    /// True once in so many.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// What each thing of a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// What is drawn for this thing of this kind, always the same.
    #[must_use]
    pub fn of(self, kind: &str, thing: u64) -> u64 {
        // FNV-1a of the kind: short, and different for different words.
        let kind = kind
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        mixed(mixed(self.0 ^ kind).wrapping_add(thing.wrapping_mul(STEP)))
    }

    /// That, below `end`; 0 where nothing is.
    #[must_use]
    pub fn below(self, kind: &str, thing: u64, end: u64) -> u64 {
        self.of(kind, thing) % end.max(1)
    }

    /// True of one thing in so many.
    #[must_use]
    pub fn one_in(self, kind: &str, thing: u64, many: u64) -> bool {
        self.below(kind, thing, many) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_and_another_seed_something_else() {
        let drawn = |seed| {
            let mut draw = Draw::new(seed);
            (0..8).map(|_| draw.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(Seed(1).of("owner", 5), Seed(1).of("owner", 5));
        assert_ne!(Seed(1).of("owner", 5), Seed(1).of("viewer", 5));
        assert_ne!(Seed(1).of("owner", 5), Seed(1).of("owner", 6));
        assert_ne!(Seed(1).of("owner", 5), Seed(2).of("owner", 5));
        assert_eq!((Draw::new(1).below(0), Seed(1).below("x", 1, 0)), (0, 0));
    }

    #[test]
    fn draws_are_spread_evenly() {
        let mut draw = Draw::new(9);
        let mut count = [0_u32; 10];
        for thing in 0..20_000 {
            count[draw.below(10) as usize] += 1;
            count[Seed(9).below("thing", thing, 10) as usize] += 1;
        }
        assert!(count.iter().all(|count| (3_700..4_300).contains(count)), "{count:?}");
    }
}
