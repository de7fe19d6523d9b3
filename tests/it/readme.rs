//! The README's commands, run as they are pasted, in their order, against a server that has what the quickstart loads.

use crate::cli::{Server, code, procura, stderr, stdout};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Between the commands of the script, with the number of the next.
const MARK: &str = "@@@ ";

/// A command and, of a session, what it prints.
struct Pasted {
    command: String,
    prints: Option<String>,
}

/// The commands of the blocks that hold any of ours. What only a person has (make, grpcurl, Python) is left out.
fn pasted(readme: &str) -> Vec<Pasted> {
    let mut commands: Vec<Pasted> = Vec::new();
    let mut block: Option<&str> = None;
    for line in readme.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(kind) };
            continue;
        }
        match (block, line.strip_prefix("$ "), commands.last_mut()) {
            (Some("console"), Some(command), _) => {
                commands.push(Pasted { command: command.to_owned(), prints: Some(String::new()) });
            }
            (Some("console"), None, Some(Pasted { prints: Some(prints), .. })) => {
                writeln!(prints, "{line}").expect("a string");
            }
            (Some(""), _, _) if !["make ", "grpcurl ", "python3 ", "  "].iter().any(|word| line.starts_with(word)) => {
                commands.push(Pasted { command: line.to_owned(), prints: None });
            }
            _ => {}
        }
    }
    let is_ours = |pasted: &Pasted| {
        ["procura ", "folder=", "until ", "export PROCURA", "kill "].iter().any(|word| pasted.command.starts_with(word))
    };
    commands.retain(is_ours);
    commands
}

/// Without what differs from run to run.
fn settled(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("token ") {
            return "token".to_owned();
        }
        line.trim_end().split(' ').map(settled_word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Ids of delegations are drawn, and a time with a fraction was read from a clock: each stands for any other.
fn settled_word(word: &str) -> String {
    let bare = word.trim_matches(|at: char| !at.is_ascii_alphanumeric());
    if bare.starts_with("dlg_") {
        return word.replace(bare, "ID");
    }
    let is_read = bare.starts_with("20") && bare.contains('T') && bare.contains('.') && bare.ends_with('Z');
    if is_read { word.replace(bare, "TIME") } else { word.to_owned() }
}

#[test]
fn every_command_of_the_readme_runs_as_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let server = Server::start();
    let saas = root.join("schema-examples/saas.zed");
    assert_eq!(code(&server.ask(["schema", "write", saas.to_str().expect("UTF-8")])), 0);
    let world = std::fs::read_to_string(root.join("schema-examples/saas.yaml")).expect("the world");
    let tuples: String = world
        .lines()
        .skip_while(|line| !line.starts_with("relationships:"))
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        .map(|line| format!("{line}\n"))
        .collect();
    let written = server.ask_with_stdin(&["tuple", "write", "-"], &tuples);
    assert_eq!(code(&written), 0, "{}", stderr(&written));

    let commands = pasted(&readme);
    assert!(commands.len() > 30, "{} commands were found", commands.len());
    // Its own port is fixed in the README; here it is one that nobody is given by port 0.
    let address = format!("127.0.0.1:{}", 20_000 + std::process::id() % 10_000);
    let home = format!("export PROCURA_SERVER={}", server.address());
    let mut script = format!("{home}\n");
    for (at, Pasted { command, .. }) in commands.iter().enumerate() {
        let command = command.replace("127.0.0.1:50052", &address).replace("unset PROCURA_SERVER", &home);
        write!(script, "echo '{MARK}{at}'\n{command}\necho \"$?\" >>codes\n").expect("a string");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(root.join("schema-examples"), folder.path().join("schema-examples")).expect("a link");
    std::fs::write(folder.path().join("script"), script).expect("written");
    let binaries = Path::new(procura().get_program()).parent().expect("a folder").to_owned();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").expect("a path"));
    let output = Command::new("bash")
        .arg("script")
        .current_dir(&folder)
        .env("PATH", path)
        .env("TMPDIR", folder.path())
        .output()
        .expect("bash runs");

    let codes = std::fs::read_to_string(folder.path().join("codes")).expect("the codes");
    let printed = stdout(&output);
    let printed: Vec<&str> =
        printed.split(MARK).skip(1).map(|part| part.split_once('\n').map_or("", |(_, text)| text)).collect();
    assert_eq!((printed.len(), codes.lines().count()), (commands.len(), commands.len()), "{}", stderr(&output));
    for ((Pasted { command, prints }, printed), code) in commands.iter().zip(printed).zip(codes.lines()) {
        match prints {
            Some(prints) => assert_eq!(settled(printed), settled(prints), "{command}"),
            None => {
                assert!(code == "0" || command.starts_with("kill "), "{command}: {code}\n{printed}{}", stderr(&output))
            }
        }
        // What is shown does something.
        let is_quiet = ["schema fmt", "schema diff", "folder=", "procura serve", "until ", "export ", "kill "];
        assert!(!printed.is_empty() || is_quiet.iter().any(|word| command.contains(word)), "{command} prints nothing");
    }
}
