//! The documents that `registrar register` is asked for: files, folders, hashes, and lists of hashes. All of their
//! faults are found before anything is sent.

use super::{
    arg_values::CaseFrom,
    args::RegisterArgs,
    document::{self, Document},
    error::{CliError, CliResult},
    hash_list::{self, ListedDocument},
};
use crate::registration::CaseId;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Of the faults that an error names.
const MAX_NAMED_FAULTS: usize = 20;
/// Of a list of hashes: some million lines.
const MAX_LIST_BYTES: u64 = 1 << 30;
const STANDARD_INPUT: &str = "-";

/// A document, the case that it is registered for, and what its caller knows it by.
#[derive(Clone, Debug)]
pub(super) struct NamedDocument {
    pub name: String,
    pub document: Document,
    pub case: CaseId,
}

/// What is wrong with single documents.
#[derive(Default)]
struct Faults {
    named: Vec<String>,
    count: usize,
}

impl Faults {
    fn add(&mut self, fault: String) {
        self.count += 1;
        if self.named.len() < MAX_NAMED_FAULTS {
            self.named.push(fault);
        }
    }

    fn into_result(self) -> CliResult<()> {
        if let ([only], 1) = (self.named.as_slice(), self.count) {
            return Err(CliError::invalid_arguments(only.clone()));
        }
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count - self.named.len() {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let faults: String = self.named.iter().map(|fault| format!("\n  {fault}")).collect();
        Err(CliError::invalid_arguments(format!("nothing was registered, because of these documents:{faults}{more}")))
    }
}

/// Where documents are named.
#[derive(PartialEq, Eq, Debug)]
enum Item {
    /// A file, or a hash, as an argument names it.
    Argument(PathBuf),
    StandardInput,
    Listed(ListedDocument),
}

/// Reads folders and lists, and hashes the files.
///
/// # Errors
/// Every document that cannot be registered.
pub(super) async fn collect(args: &RegisterArgs, shows_progress: bool) -> CliResult<Vec<NamedDocument>> {
    let mut faults = Faults::default();
    let items = list_items(args, &mut faults);
    let is_only = items.len() == 1;
    let bar = if shows_progress && !is_only { hashing_bar(items.len()) } else { ProgressBar::hidden() };
    let mut documents = Vec::with_capacity(items.len());
    for (name, item) in items {
        let document = match item {
            Item::Argument(path) => {
                document::resolve_to_register(path.as_os_str(), shows_progress && is_only, args.allow_empty).await
            }
            Item::StandardInput => document::of_standard_input(args.allow_empty).await,
            Item::Listed(ListedDocument { document, .. }) => Ok(Document::from_hash(document)),
        };
        let document = document.map_err(|error| faults.add(Box::<CliError>::from(error).message)).ok();
        let case = case_of(args, &name).map_err(|error| faults.add(error)).ok();
        documents.extend(document.zip(case).map(|(document, case)| NamedDocument { name, document, case }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    faults.into_result()?;
    if documents.is_empty() {
        return Err(CliError::invalid_arguments("there is no document: the folders and lists are empty"));
    }
    Ok(documents)
}

/// Each with the name by which it is reported.
fn list_items(args: &RegisterArgs, faults: &mut Faults) -> Vec<(String, Item)> {
    let mut items = Vec::new();
    for argument in &args.documents {
        let path = PathBuf::from(argument);
        let name = argument.to_string_lossy().into_owned();
        if argument == OsStr::new(STANDARD_INPUT) {
            items.push(("standard input".to_owned(), Item::StandardInput));
        } else if path.is_dir() && args.recursive {
            let mut files = Vec::new();
            list_files(&path, &mut files, faults);
            items.extend(files.into_iter().map(|file| (file.to_string_lossy().into_owned(), Item::Argument(file))));
        } else {
            items.push((name, Item::Argument(path)));
        }
    }
    if let Some(list) = &args.from {
        read_list(list, &mut items, faults);
    }
    items
}

/// Every regular file below, in the order of their names. Links to folders are not followed: they may form a circle.
fn list_files(folder: &Path, files: &mut Vec<PathBuf>, faults: &mut Faults) {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return faults.add(format!("`{}` cannot be read: {error}", folder.display())),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list_files(&path, files, faults),
            Ok(kind) if kind.is_file() || path.is_file() => files.push(path),
            Ok(_) => {}
            Err(error) => faults.add(format!("`{}` cannot be read: {error}", path.display())),
        }
    }
}

fn read_list(list: &Path, items: &mut Vec<(String, Item)>, faults: &mut Faults) {
    let is_standard_input = list == Path::new(STANDARD_INPUT);
    let name = if is_standard_input { "standard input".to_owned() } else { list.display().to_string() };
    let mut bytes = Vec::new();
    let read = if is_standard_input {
        io::stdin().lock().take(MAX_LIST_BYTES).read_to_end(&mut bytes)
    } else {
        fs::File::open(list).and_then(|file| file.take(MAX_LIST_BYTES).read_to_end(&mut bytes))
    };
    if let Err(error) = read {
        return faults.add(format!("{name} cannot be read: {error}"));
    }
    for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        match hash_list::parse_line(line) {
            Ok(Some(listed)) => {
                let shown = listed.name.clone().unwrap_or_else(|| listed.document.text.clone());
                items.push((shown, Item::Listed(listed)));
            }
            Ok(None) => {}
            Err(problem) => faults.add(format!("{name}, line {}: the hash {problem}", index + 1)),
        }
    }
}

/// # Errors
/// When the name has no case.
fn case_of(args: &RegisterArgs, name: &str) -> Result<CaseId, String> {
    let path = Path::new(name);
    let text = match (&args.case, args.case_from) {
        (Some(case), _) => return Ok(case.clone()),
        (None, Some(CaseFrom::Folder)) => path.parent().and_then(Path::file_name),
        (None, Some(CaseFrom::Name) | None) => path.file_stem(),
    };
    let text = text.unwrap_or_default().to_string_lossy();
    text.parse().map_err(|error| format!("`{name}` gives the case `{text}`, which {error}; use --case"))
}

fn hashing_bar(items: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("  hashing {wide_bar} {pos}/{len} {eta} left");
    ProgressBar::new(items as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, args::ClientCommand, parse};
    use std::ffi::OsString;

    fn args(words: &[&str]) -> RegisterArgs {
        let words = ["registrar", "register"].iter().chain(words).map(OsString::from);
        let Ok(Command::Client(ClientCommand::Register(args))) = parse(words) else { panic!("it does not register") };
        *args
    }

    async fn collected(words: &[&str]) -> Result<Vec<(String, String)>, String> {
        let found = collect(&args(words), false).await.map_err(|error| error.message)?;
        Ok(found.into_iter().map(|named| (named.name, named.case.to_string())).collect())
    }

    #[tokio::test]
    async fn folders_and_lists_are_read_and_every_fault_is_named_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        fs::create_dir_all(folder.path().join("cases/CASE-2")).unwrap();
        for (name, content) in [("cases/a.pdf", "a"), ("cases/CASE-2/b.pdf", "b"), ("cases/CASE-2/.c", "c")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let all = collected(&["-r", &path("cases"), "--case", "CASE-1"]).await.unwrap();
        let expected = ["cases/CASE-2/.c", "cases/CASE-2/b.pdf", "cases/a.pdf"].map(path);
        assert_eq!(all, expected.map(|name| (name, "CASE-1".to_owned())));
        let by_folder = collected(&[&path("cases/CASE-2/b.pdf"), "--case-from", "folder"]).await.unwrap();
        assert_eq!(by_folder[0].1, "CASE-2");
        let by_name = collected(&[&path("cases/CASE-2/b.pdf"), &path("cases/a.pdf"), "--case-from", "name"]).await;
        assert_eq!(by_name.unwrap().into_iter().map(|(_, case)| case).collect::<Vec<_>>(), ["b", "a"]);

        fs::write(path("empty.pdf"), "").unwrap();
        let hash = "11".repeat(32);
        fs::write(path("list"), format!("# a list\n{hash}  x.pdf\n\nabc  y.pdf\n")).unwrap();
        let faulty = [&path("cases"), &path("no.pdf"), &path("empty.pdf"), "--from", &path("list"), "--case", "C"];
        let error = collected(&faulty).await.unwrap_err();
        assert_eq!(error.lines().count(), 5, "{error}");
        for part in ["-r", "no such file", "--allow-empty", ", line 4: the hash has 3 hex digits"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let listed = collected(&["--from", &path("list"), "--case", "C"]).await;
        assert!(listed.unwrap_err().contains("line 4"));
        let allowed = collected(&[&path("empty.pdf"), "--allow-empty", "--case", "C"]).await.unwrap();
        assert_eq!(allowed.len(), 1);
    }

    #[tokio::test]
    async fn many_faults_are_counted() {
        let names: Vec<_> = (0..30).map(|number| format!("/no/file-{number}.pdf")).collect();
        let words: Vec<_> = names.iter().map(String::as_str).chain(["--case", "C"]).collect();
        let error = collected(&words).await.unwrap_err();
        assert!(error.contains("file-19.pdf") && error.ends_with("and 10 more"), "{error}");
    }
}
