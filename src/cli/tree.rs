//! Drawing a tree that comes as a list of steps: each on its line, with branches to what stands below it.

use owo_colors::OwoColorize;

/// Deeper levels all stand in one column: a path thousands of levels deep must not print a square.
const LEVELS_DRAWN_MAX: usize = 40;

/// How the steps of a list stand to one another, by their depths.
pub struct Shape {
    depths: Vec<usize>,
    /// Of each step, the first that is no longer below it.
    ends: Vec<usize>,
    parents: Vec<Option<usize>>,
}

impl Shape {
    /// The shape of steps of these depths. A step that is more than one deeper than the one before counts as one deeper.
    pub fn new(given: impl IntoIterator<Item = u32>) -> Shape {
        let (mut depths, mut ends, mut parents) = (Vec::new(), Vec::new(), Vec::new());
        let mut open: Vec<usize> = Vec::new();
        for (at, depth) in given.into_iter().enumerate() {
            let depth = (depth as usize).min(open.len());
            for closed in open.drain(depth..) {
                if let Some(end) = ends.get_mut(closed) {
                    *end = at;
                }
            }
            parents.push(open.last().copied());
            depths.push(depth);
            ends.push(0);
            open.push(at);
        }
        let last = depths.len();
        for closed in open {
            if let Some(end) = ends.get_mut(closed) {
                *end = last;
            }
        }
        Shape { depths, ends, parents }
    }

    /// What a step stands directly below.
    pub fn parent(&self, at: usize) -> Option<usize> {
        self.parents.get(at).copied().flatten()
    }

    /// The one step directly below, where there is one only.
    pub fn only_child(&self, at: usize) -> Option<usize> {
        let end = self.end(at);
        (at + 1 < end && self.end(at + 1) == end).then_some(at + 1)
    }

    /// Whether nothing stands below a step.
    pub fn is_leaf(&self, at: usize) -> bool {
        self.end(at) == at + 1
    }

    /// Whether a step is not the first directly below its parent.
    pub fn is_later_child(&self, at: usize) -> bool {
        self.parent(at).is_some_and(|parent| parent + 1 != at)
    }

    /// The first step that is no longer below.
    pub fn end(&self, at: usize) -> usize {
        self.ends.get(at).copied().unwrap_or(at + 1)
    }

    /// The steps as lines with branches, from this depth on. A step without a text is left out, and what stands below it
    /// moves up.
    pub fn drawn(&self, texts: &[Option<String>], branches_from: usize) -> String {
        let mut lines: Vec<(usize, &str)> = Vec::new();
        let mut left_out: Vec<usize> = Vec::new();
        for (at, depth) in self.depths.iter().enumerate() {
            left_out.retain(|end| at < *end);
            match texts.get(at).and_then(Option::as_ref) {
                Some(text) => lines.push((depth - left_out.len(), text)),
                None => left_out.push(self.end(at)),
            }
        }
        // From the end, so that each line knows which levels go on after it.
        let mut goes_on = [false; LEVELS_DRAWN_MAX + 1];
        let mut drawn: Vec<String> = Vec::with_capacity(lines.len());
        for (depth, text) in lines.iter().rev() {
            let Some(depth) = depth.checked_sub(branches_from).map(|depth| depth.min(LEVELS_DRAWN_MAX)) else {
                drawn.push((*text).to_owned());
                continue;
            };
            let mut line = String::new();
            for goes_on in goes_on.iter().take(depth) {
                line.push_str(if *goes_on { "│  " } else { "   " });
            }
            line.push_str(if goes_on.get(depth).is_some_and(|goes_on| *goes_on) { "├─ " } else { "└─ " });
            if let Some(level) = goes_on.get_mut(depth) {
                *level = true;
            }
            goes_on.iter_mut().skip(depth + 1).for_each(|level| *level = false);
            drawn.push(format!("{}{text}", line.dimmed()));
        }
        drawn.reverse();
        drawn.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: &[(u32, Option<&str>)]) -> String {
        let texts: Vec<Option<String>> = rows.iter().map(|(_, text)| text.map(str::to_owned)).collect();
        let shape = Shape::new(rows.iter().map(|(depth, _)| *depth));
        anstream::adapter::strip_str(&shape.drawn(&texts, 0)).to_string()
    }

    #[test]
    fn branches_lead_to_what_stands_below() {
        let rows = [(0, Some("a")), (1, Some("b")), (2, Some("c")), (1, Some("d")), (2, Some("e")), (2, Some("f"))];
        assert_eq!(drawn(&rows), "└─ a\n   ├─ b\n   │  └─ c\n   └─ d\n      ├─ e\n      └─ f");
    }

    #[test]
    fn what_stands_below_a_step_left_out_moves_up() {
        let rows = [(0, Some("a")), (1, None), (2, Some("c")), (3, Some("d")), (2, Some("e"))];
        assert_eq!(drawn(&rows), "└─ a\n   ├─ c\n   │  └─ d\n   └─ e");
    }

    #[test]
    fn a_very_deep_tree_stays_narrow_and_jumps_are_no_trouble() {
        let shape = Shape::new(0..5_000);
        let texts: Vec<Option<String>> = (0..5_000).map(|n| Some(n.to_string())).collect();
        assert!(shape.drawn(&texts, 0).lines().all(|line| line.chars().count() < 200));
        assert_eq!(drawn(&[(7, Some("a")), (9, Some("b")), (9, Some("c"))]), "└─ a\n   └─ b\n      └─ c");
        assert_eq!(drawn(&[]), "");
    }

    #[test]
    fn an_only_child_is_known() {
        let shape = Shape::new([0, 1, 2, 2]);
        assert_eq!((shape.only_child(0), shape.only_child(1), shape.only_child(2)), (Some(1), None, None));
        assert_eq!((shape.parent(3), shape.is_later_child(2), shape.is_later_child(3)), (Some(1), false, true));
    }
}
