//! Regular expressions of `matches`, with RE2's meaning and a cost known before a search.
//!
//! The search is a bounded backtracker: time is at most (length of the text + 1) × (states of the automaton), whatever
//! pattern and text are, so that product is what a search is charged. RE2, which SpiceDB's caveats run on, reads `\d`,
//! `\w`, `\s` and `\b` as ASCII; they are rewritten to mean that here too, which also keeps automata small.

#![expect(clippy::wildcard_enum_match_arm, reason = "the rest of a pattern stays as it is written")]

use regex_automata::Input;
use regex_automata::nfa::thompson::{Compiler, Config, WhichCaptures, backtrack::BoundedBacktracker};
use regex_syntax::ast::{self, Ast};

/// Longest pattern, in bytes: bounds the time reading it takes.
pub(super) const PATTERN_BYTES_MAX: usize = 512;
/// Largest automaton of one pattern, in bytes.
pub(super) const AUTOMATON_BYTES_MAX: usize = 64 << 10;
/// Classes that Unicode's tables expand to hundreds of ranges, in one pattern.
const UNICODE_CLASSES_MAX: usize = 4;
/// Characters in written ranges of a pattern that ignores case: folding visits each of them.
const FOLDED_CHARACTERS_MAX: u32 = 0x1_0000;
const NEST_MAX: u32 = 24;
/// Steps of the automaton that cost one step of an evaluation.
const STATES_A_STEP: usize = 16;
/// The largest search, in states × bytes: beyond, an evaluation's whole budget would not pay for it.
const SEARCH_MAX: usize = STATES_A_STEP * super::STEPS_MAX as usize;

#[derive(Debug)]
pub(super) struct Pattern {
    search: BoundedBacktracker,
    states: usize,
}

impl Pattern {
    /// Read and built; the message otherwise.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let text = as_re2(text)?;
        let hir = regex_syntax::ParserBuilder::new()
            .nest_limit(NEST_MAX)
            .build()
            .parse(&text)
            .map_err(|error| describe(&error))?;
        let config = Config::new().nfa_size_limit(Some(AUTOMATON_BYTES_MAX)).which_captures(WhichCaptures::None);
        let automaton = Compiler::new().configure(config).build_from_hir(&hir).map_err(|error| {
            if error.size_limit().is_some() { "the pattern is too large".to_owned() } else { error.to_string() }
        })?;
        let states = automaton.states().len();
        let search = BoundedBacktracker::builder()
            .configure(BoundedBacktracker::config().visited_capacity(SEARCH_MAX / 8 + 64))
            .build_from_nfa(automaton)
            .map_err(|error| error.to_string())?;
        Ok(Pattern { search, states })
    }

    /// How large the automaton is.
    pub fn states(&self) -> usize {
        self.states
    }

    /// What a search of so many bytes costs.
    pub fn steps(&self, bytes: usize) -> u32 {
        let work = (bytes + 1).saturating_mul(self.states);
        u32::try_from(1 + work / STATES_A_STEP).unwrap_or(u32::MAX)
    }

    /// Whether it matches anywhere in the text; `None` where the text is longer than a whole budget could pay for.
    pub fn matches(&self, text: &str) -> Option<bool> {
        let mut cache = self.search.create_cache();
        self.search.try_is_match(&mut cache, Input::new(text)).ok()
    }
}

/// The pattern with RE2's ASCII classes and boundaries written out; refuses what would take too long to build.
fn as_re2(text: &str) -> Result<String, String> {
    let ast = ast::parse::ParserBuilder::new()
        .nest_limit(NEST_MAX)
        .build()
        .parse(text)
        .map_err(|error| describe(&regex_syntax::Error::Parse(error)))?;
    let classes = ast::visit(&ast, Classes::default()).map_err(|Refused(message)| message)?;
    let mut written = String::with_capacity(text.len());
    let mut at = 0;
    for (range, replacement) in classes.replacements {
        written.push_str(text.get(at..range.start).unwrap_or_default());
        written.push_str(replacement);
        at = range.end;
    }
    written.push_str(text.get(at..).unwrap_or_default());
    Ok(written)
}

/// Walks a pattern's tree without recursion and notes what to rewrite, in the order of the text.
#[derive(Default)]
struct Classes {
    replacements: Vec<(std::ops::Range<usize>, &'static str)>,
    unicode: usize,
    ignores_case: bool,
    characters: u32,
}

struct Refused(String);

impl Classes {
    fn perl(&mut self, class: &ast::ClassPerl) {
        let replacement = match (&class.kind, class.negated) {
            (ast::ClassPerlKind::Digit, false) => "[0-9]",
            (ast::ClassPerlKind::Digit, true) => "[^0-9]",
            (ast::ClassPerlKind::Space, false) => r"[\t\n\f\r ]",
            (ast::ClassPerlKind::Space, true) => r"[^\t\n\f\r ]",
            (ast::ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ast::ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.replacements.push((class.span.start.offset..class.span.end.offset, replacement));
    }

    fn flags(&mut self, flags: &ast::Flags) {
        self.ignores_case |= flags.flag_state(ast::Flag::CaseInsensitive) == Some(true);
    }

    fn unicode(&mut self) -> Result<(), Refused> {
        self.unicode += 1;
        if self.unicode > UNICODE_CLASSES_MAX {
            return Err(Refused(format!("the pattern has more than {UNICODE_CLASSES_MAX} classes of Unicode")));
        }
        Ok(())
    }
}

impl ast::Visitor for Classes {
    type Output = Classes;
    type Err = Refused;

    fn finish(self) -> Result<Classes, Refused> {
        if self.ignores_case && self.characters > FOLDED_CHARACTERS_MAX {
            return Err(Refused("the pattern ignores case over too many characters".to_owned()));
        }
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Refused> {
        match ast {
            Ast::ClassPerl(class) => self.perl(class),
            Ast::ClassUnicode(_) => self.unicode()?,
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Group(group) => {
                if let Some(flags) = group.flags() {
                    self.flags(flags);
                }
            }
            Ast::Assertion(assertion) => {
                let replacement = match assertion.kind {
                    ast::AssertionKind::WordBoundary => r"(?-u:\b)",
                    ast::AssertionKind::NotWordBoundary => r"(?-u:\B)",
                    _ => return Ok(()),
                };
                self.replacements.push((assertion.span.start.offset..assertion.span.end.offset, replacement));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Refused> {
        match item {
            ast::ClassSetItem::Perl(class) => self.perl(class),
            ast::ClassSetItem::Unicode(_) => self.unicode()?,
            ast::ClassSetItem::Range(range) => {
                let width = u32::from(range.end.c).saturating_sub(u32::from(range.start.c));
                self.characters = self.characters.saturating_add(width);
            }
            _ => {}
        }
        Ok(())
    }
}

fn describe(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "the pattern cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text).unwrap()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_re2() {
        for (pattern, text, expected) in [
            ("b+", "abc", true),
            ("^b", "abc", false),
            ("^a.c$", "abc", true),
            ("^a.c$", "a\nc", false),
            (r"^\d+$", "42", true),
            (r"^\d+$", "٤٢", false),
            (r"^\D+$", "٤٢", true),
            (r"^\w+$", "é", false),
            (r"^[\w.]+@acme\.com$", "dana.r@acme.com", true),
            (r"^[^\s]+$", "a b", false),
            (r"\bteam\b", "the team.", true),
            (r"\Bam\b", "the team", true),
            (r"(?i)^ÉCOLE$", "école", true),
            (r"^\p{L}+$", "école", true),
            ("^(a|b){2,3}$", "abab", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn hostile_patterns_are_refused_or_cheap() {
        for pattern in [
            "(",
            "a{1001}{1001}",
            "[z-a]",
            r"\p{L}\p{L}\p{L}\p{L}\p{L}",
            r"\1",
            "(?i)[\u{0}-\u{10ffff}]",
            "(?P<n>",
            "(?=a)",
            &"a".repeat(513),
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        let mut worst = std::time::Duration::ZERO;
        let hostile = [
            "(?i)[^a]".repeat(64),
            "(?i)[^\u{1}-\u{3}]".repeat(40),
            "[^a]".repeat(128),
            r"(?i)\p{L}\p{L}\p{Lu}\P{Lu}".to_owned(),
            r"(?i)[\p{L}&&\p{Lu}]".to_owned(),
            "(((((((((a*)*)*)*)*)*)*)*)*)*".to_owned(),
            "(?:){1000}{1000}".to_owned(),
            "(?:a?){1000}".to_owned(),
            ".{999}".to_owned(),
            format!("{}{}", "(a|".repeat(23), "b)".repeat(23)),
            "[\u{0}-\u{10ffff}]".repeat(30),
            "(?i)[\u{0}-\u{1fff}]".repeat(8),
            "(?i)[^x]{200}".to_owned(),
            "[^x]{200}".to_owned(),
            "(?:[^x]|[^y]){60}".to_owned(),
            r"\PL{20}".to_owned(),
            "[a[b[c[d[e[f[g]]]]]]]".repeat(24),
        ];
        for pattern in hostile {
            let start = std::time::Instant::now();
            let built = Pattern::new(&pattern);
            let took = start.elapsed();
            worst = worst.max(took);
            let found = built.map(|pattern| pattern.states);
            println!("{took:?} {:?} {}", found, pattern.chars().take(40).collect::<String>());
        }
        println!("worst build of a hostile pattern: {worst:?}");
        let mut worst = std::time::Duration::ZERO;
        for pattern in
            ["(a*)*b", "(a|aa){1,200}$", "(?:a?){300}b", "(a|b)*a(a|b){12}c", ".*.*.*=.*", "(x+x+)+y", "a{200}b"]
        {
            let pattern = Pattern::new(pattern).unwrap();
            // The longest text that an evaluation could pay for.
            let text = "a".repeat(SEARCH_MAX / pattern.states - 17);
            assert!(pattern.steps(text.len()) <= crate::condition::STEPS_MAX);
            let start = std::time::Instant::now();
            assert!(pattern.matches(&text).is_some());
            worst = worst.max(start.elapsed());
        }
        println!("worst search that a budget pays for: {worst:?}");
    }

    #[test]
    fn a_search_is_charged_by_its_size() {
        let pattern = Pattern::new("^(a|aa)+$").unwrap();
        assert!(pattern.steps(1_000) > 100 * pattern.steps(1));
        assert_eq!(pattern.matches(&"a".repeat(10_000)), Some(true));
        assert_eq!(pattern.matches(&format!("{}b", "a".repeat(10_000))), Some(false));
    }
}
