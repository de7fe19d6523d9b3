//! `procura tuple export`: all tuples that match, at one revision, as text that `import` reads back.
//!
//! INVARIANT: the file named is the whole export or what it was before: it is written beside, synced, then renamed.

use super::exit::{Exit, Failure};
use super::output::Output;
use super::reach::{Server, When, note_within};
use super::tuple::{Filter, counted};
use crate::model::RelationTuple;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const EXAMPLES: &str = "\
Examples:
  procura tuple export tuples.txt
  procura tuple export docs.txt --object document
  procura tuple export | gzip > tuples.txt.gz

The file appears when it is complete, readable by its owner only. Written to
standard output, an export is complete only if the command ends with 0.";

/// Export the tuples that match, at one revision, to a file
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The file to write or replace; standard output when left out
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

impl Export {
    /// Exports everything, or fails and leaves the file as it was.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let filter = self.filter.parsed()?;
        let client = self.server.connect()?;
        if let Some(root) = &filter.within {
            note_within(&client, &self.when.at(), root, filter.object_type.as_ref(), output);
        }
        let mut target = match &self.file {
            Some(path) if path != Path::new("-") => Target::File(Partial::beside(path)?),
            Some(_) | None => Target::Output(output),
        };
        let mut exported: u64 = 0;
        let mut broken = None;
        let token = client.export_tuples(&filter, &self.when.at(), None, &mut |token, tuples, _| {
            let head = (exported == 0).then_some(token);
            exported += tuples.len() as u64;
            broken = target.write(head, &tuples).err();
            broken.is_none()
        })?;
        if let Some(failure) = broken {
            return Err(failure);
        }
        let path = match target {
            Target::File(partial) => Some(partial.complete()?),
            Target::Output(_) => None,
        };
        match path {
            Some(path) if output.is_json() => {
                output.value(&json!({"exported": exported, "file": path.display().to_string(), "token": token}))?;
            }
            Some(path) => {
                output.line(format_args!("exported {} to {}", counted(exported), path.display()))?;
                output.line(format_args!("token   {token}"))?;
            }
            None if output.is_json() => output.value(&json!({"exported": exported, "token": token}))?,
            None => {
                output.flush()?;
                output.note(format_args!("exported {}, token {token}", counted(exported)));
            }
        }
        Ok(Exit::Success)
    }
}

enum Target<'o> {
    File(Partial),
    Output(&'o mut Output),
}

impl Target<'_> {
    fn write(&mut self, head: Option<&str>, tuples: &[RelationTuple]) -> Result<(), Failure> {
        match self {
            Target::File(partial) => partial.write(head, tuples).map_err(|error| Failure::file(&partial.path, &error)),
            Target::Output(output) => {
                if !output.is_json()
                    && let Some(token) = head
                {
                    output.line(heading(token))?;
                }
                for tuple in tuples {
                    if output.is_json() {
                        output.value(&json!({"tuple": tuple.to_string()}))?;
                    } else {
                        output.line(tuple)?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn heading(token: &str) -> String {
    format!("// procura tuple export, as of {token}")
}

/// A file that is not there yet; gone when dropped before it is complete.
struct Partial {
    path: PathBuf,
    folder: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl Partial {
    fn beside(path: &Path) -> Result<Partial, Failure> {
        if path.is_dir() {
            return Err(Failure::usage(format!("`{}` is a folder", path.display())));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".procura-export-").tempfile_in(folder);
        let file = file.map_err(|error| Failure::file(path, &error))?;
        Ok(Partial { path: path.to_owned(), folder: folder.to_owned(), file: BufWriter::with_capacity(1 << 20, file) })
    }

    fn write(&mut self, head: Option<&str>, tuples: &[RelationTuple]) -> io::Result<()> {
        if let Some(token) = head {
            writeln!(self.file, "{}", heading(token))?;
        }
        for tuple in tuples {
            writeln!(self.file, "{tuple}")?;
        }
        Ok(())
    }

    /// Synced and renamed, and the folder synced: what is said to be exported survives a power cut.
    fn complete(self) -> Result<PathBuf, Failure> {
        let Partial { path, folder, file } = self;
        let finish = || -> io::Result<()> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(&folder)?.sync_all()
        };
        finish().map_err(|error| Failure::file(&path, &error))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuples.txt");
        std::fs::write(&path, "before").unwrap();
        let tuples = ["doc:1#viewer@user:rita".parse().unwrap()];
        let mut partial = Partial::beside(&path).unwrap();
        partial.write(Some("TOKEN"), &tuples).unwrap();
        drop(partial);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
        let mut partial = Partial::beside(&path).unwrap();
        partial.write(Some("TOKEN"), &tuples).unwrap();
        partial.complete().unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "// procura tuple export, as of TOKEN\ndoc:1#viewer@user:rita\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
        assert!(Partial::beside(folder.path()).is_err());
    }
}
