//! Dead letters in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use serde::de::IgnoredAny;

use crate::connectors::ndjson::envelope::write;
use crate::pipeline::{Answers, Batch, ConnectorError, Failure, Ordering, Outcome, Reason, Sink};

/// The start of every dead letter. A last line with another start is never removed.
const START: &[u8] = b"{\"topic\":";

/// A file of dead letters, one a line. Several runs may share it; a file that is rotated or removed is created again.
#[derive(Clone, Debug)]
pub struct DeadLetterFile {
    path: Arc<PathBuf>,
    file: Arc<Mutex<File>>,
}

impl DeadLetterFile {
    /// Opens the file at `path`. A new file is readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be opened, or its first or last line is not a dead letter.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failure = |error| unusable(path, &error);
        let file = open_durably(path).map_err(failure)?;
        let letters = Self { path: Arc::new(path.to_owned()), file: Arc::new(Mutex::new(file)) };
        letters.locked(|file, _| file.sync_all()).map_err(failure)?;
        Ok(letters)
    }

    /// Checks that the file at `path` can be opened, or created, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check_path(path: &Path) -> Result<(), Failure> {
        check_unopened(path).map_err(|error| unusable(path, &error))
    }

    /// Appends `lines` and returns when they are durable; after an error the file is as it was before.
    fn append(&self, lines: &[u8]) -> io::Result<()> {
        loop {
            if self.is_moved()? {
                *self.file.lock().unwrap_or_else(PoisonError::into_inner) = open_durably(&self.path)?;
            }
            self.locked(|mut file, end| {
                let written = file.write_all(lines).and_then(|()| file.sync_data());
                if written.is_err() && file.metadata()?.is_file() {
                    file.set_len(end)?;
                }
                written
            })?;
            // Only a letter in the file at this path counts: if the file was replaced meanwhile, append again.
            if !self.is_moved()? {
                return Ok(());
            }
        }
    }

    /// Returns whether the file was rotated or removed since it was opened.
    fn is_moved(&self) -> io::Result<bool> {
        let open = self.file.lock().unwrap_or_else(PoisonError::into_inner).metadata()?;
        match std::fs::metadata(&*self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) != (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Runs `work` with the file and its end; no other run appends to it meanwhile.
    fn locked(&self, work: impl FnOnce(&File, u64) -> io::Result<()>) -> io::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        flock(&*file, FlockOperation::LockExclusive)?;
        let done = repair(&file).and_then(|end| work(&file, end));
        flock(&*file, FlockOperation::Unlock)?;
        done
    }
}

/// Opens the file at `path`, and syncs its folder to make a new file name durable.
fn open_durably(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    check_content(&file)?;
    File::open(folder_of(path)).and_then(|folder| folder.sync_all())?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Checks the file at `path`, or else the folder to create it in.
fn check_unopened(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => Err(Errno::ISDIR.into()),
        Ok(about) if about.is_file() => check_content(&OpenOptions::new().read(true).append(true).open(path)?),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(access(folder_of(path), Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
        }
        Err(error) => Err(error),
    }
}

/// Refuses a file that holds something other than dead letters, by its first line and its last one if that is torn.
fn check_content(mut file: &File) -> io::Result<()> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(());
    }
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(START.len() as u64).read_to_end(&mut first)?;
    if !START.starts_with(&first) {
        return Err(io::Error::other("its first line is not a dead letter"));
    }
    torn_line(file, about.len()).map(drop)
}

/// Returns the bytes after the last line feed of a file that ends at `end`, which are the start of a dead letter.
fn torn_line(file: &File, end: u64) -> io::Result<Vec<u8>> {
    let tail = last_line(file, end)?;
    let ours = if tail.len() < START.len() { START.starts_with(&tail) } else { tail.starts_with(START) };
    if ours { Ok(tail) } else { Err(io::Error::other("its last line is not a dead letter")) }
}

/// Repairs a torn last line and returns the end of the file. A torn line was never acknowledged and is removed.
fn repair(mut file: &File) -> io::Result<u64> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(0);
    }
    let mut end = about.len();
    let tail = torn_line(file, end)?;
    if tail.is_empty() {
        return Ok(end);
    }
    if serde_json::from_slice::<IgnoredAny>(&tail).is_ok() {
        file.write_all(b"\n")?;
        end += 1;
    } else {
        end -= tail.len() as u64;
        file.set_len(end)?;
    }
    Ok(end)
}

/// Returns the bytes after the last line feed of a file that ends at `end`.
fn last_line(mut file: &File, end: u64) -> io::Result<Vec<u8>> {
    let mut start = end;
    let mut tail = Vec::new();
    while start > 0 {
        let length = start.min(64 << 10);
        start -= length;
        let mut block = vec![0; usize::try_from(length).expect("64 KiB")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(feed) = block.iter().rposition(|byte| *byte == b'\n') {
            tail.splice(..0, block.drain(feed + 1..));
            break;
        }
        tail.splice(..0, block);
    }
    Ok(tail)
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot write dead letters to `{}`", path.display()));
    let folder = folder_of(path);
    if error.kind() == io::ErrorKind::NotFound && !folder.exists() {
        let cause = format!("the folder `{}` does not exist", folder.display());
        return failure.because(cause).hint("name a file in another folder, or create this one");
    }
    failure.because(error).hint("name a file that can be written and holds dead letters only")
}

impl Sink for DeadLetterFile {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let letters = self.clone();
        let records = batch.len();
        let appended = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            batch.iter().for_each(|record| write(&record.view(), &mut lines));
            letters.append(&lines)
        });
        let path = Arc::clone(&self.path);
        let outcome = match appended.await {
            Ok(Ok(())) => Outcome::Delivered,
            Ok(Err(error)) => {
                Outcome::Retry(Reason::new("dead_letters_file", format!("cannot write `{}`: {error}", path.display())))
            }
            Err(_) => return Err(Failure::new(format!("cannot write `{}`: the writer was stopped", path.display())).into()),
        };
        Ok(Box::pin(std::future::ready(vec![outcome; records])))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let letters = self.clone();
        match tokio::task::spawn_blocking(move || letters.append(b"")).await {
            Ok(appended) => Ok(appended.map_err(|error| unusable(&self.path, &error))?),
            Err(_) => Err(Failure::new(format!("cannot check `{}`: the writer was stopped", self.path.display())).into()),
        }
    }

    fn ordering(&self) -> Ordering {
        Ordering::OneByOne
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use bytes::Bytes;

    use super::*;
    use crate::connectors::ndjson::{ParsedLine, read};
    use crate::record::{Partition, Record};

    fn letter(offset: i64) -> Record {
        let key = Some(Bytes::from_static(b"\xff"));
        Record { partition: Partition::new("t", 0), offset, timestamp: None, key, value: None, headers: Vec::new() }
    }

    async fn sent(letters: &DeadLetterFile, offsets: impl IntoIterator<Item = i64>) -> Vec<Outcome> {
        letters.submit(Arc::new(offsets.into_iter().map(letter).collect())).await.unwrap().await
    }

    fn offsets(path: &Path) -> Vec<i64> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "torn: {text}");
        let offset = |line: &str| match read(line.as_bytes()) {
            Ok(ParsedLine::Record(record)) => record.offset,
            other => panic!("{other:?}"),
        };
        text.lines().map(offset).collect()
    }

    #[tokio::test]
    async fn dead_letters_are_lines_of_a_file_that_only_its_owner_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        let letters = DeadLetterFile::open(&path).unwrap();
        letters.check().await.unwrap();
        assert_eq!(sent(&letters, [1, 2]).await, [Outcome::Delivered, Outcome::Delivered]);
        assert_eq!(sent(&DeadLetterFile::open(&path).unwrap(), [3]).await, [Outcome::Delivered]);
        assert_eq!(offsets(&path), [1, 2, 3]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn every_line_parses_wherever_a_crash_cut_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        let mut line = Vec::new();
        write(&letter(1).view(), &mut line);
        let whole = line.len();
        write(&letter(2).view(), &mut line);
        for cut in whole..=line.len() {
            fs::write(&path, &line[..cut]).unwrap();
            let letters = DeadLetterFile::open(&path).unwrap();
            sent(&letters, [3]).await;
            // Only the line feed is missing: the letter is complete.
            let expected: &[i64] = if cut >= line.len() - 1 { &[1, 2, 3] } else { &[1, 3] };
            assert_eq!(offsets(&path), expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_torn_line_of_another_run_is_repaired_before_the_next_dead_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        let letters = DeadLetterFile::open(&path).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"topic\":\"t\",\"par").unwrap();
        sent(&letters, [1]).await;
        assert_eq!(offsets(&path), [1]);
    }

    #[tokio::test]
    async fn a_file_that_was_rotated_or_removed_is_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("letters.ndjson"), folder.path().join("letters.ndjson.1"));
        let letters = DeadLetterFile::open(&path).unwrap();
        sent(&letters, [1]).await;
        fs::rename(&path, &rotated).unwrap();
        assert_eq!(sent(&letters, [2]).await, [Outcome::Delivered]);
        assert_eq!((offsets(&rotated), offsets(&path)), (vec![1], vec![2]));
        fs::remove_file(&path).unwrap();
        assert_eq!(sent(&letters, [3]).await, [Outcome::Delivered]);
        assert_eq!(offsets(&path), [3]);
    }

    #[test]
    fn a_file_with_other_content_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thesis.txt");
        let mut letter_then_text = Vec::new();
        write(&letter(1).view(), &mut letter_then_text);
        letter_then_text.extend(b"a remark");
        for (text, line) in
            [("x".repeat(100_000).into_bytes(), "first"), (b"a\nb\n".to_vec(), "first"), (letter_then_text, "last")]
        {
            fs::write(&path, &text).unwrap();
            let failure = DeadLetterFile::open(&path).unwrap_err();
            assert_eq!(
                failure.to_string(),
                format!("cannot write dead letters to `{}`: its {line} line is not a dead letter", path.display())
            );
            assert_eq!(DeadLetterFile::check_path(&path).unwrap_err(), failure);
            assert_eq!(fs::read(&path).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn a_check_of_the_path_creates_nothing_and_has_the_error_of_opening_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        DeadLetterFile::check_path(&path).unwrap();
        assert!(!path.exists());
        sent(&DeadLetterFile::open(&path).unwrap(), [1]).await;
        DeadLetterFile::check_path(&path).unwrap();
        assert_eq!(offsets(&path), [1]);
        for wrong in [folder.path(), Path::new("/nowhere/letters"), path.join("below").as_path()] {
            assert_eq!(DeadLetterFile::check_path(wrong).unwrap_err(), DeadLetterFile::open(wrong).unwrap_err());
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_a_stall_and_never_a_delivery() {
        let full = Path::new("/dev/full");
        let file = OpenOptions::new().read(true).append(true).open(full).unwrap();
        let letters = DeadLetterFile { path: Arc::new(full.to_owned()), file: Arc::new(Mutex::new(file)) };
        let Outcome::Retry(reason) = &sent(&letters, [1, 2]).await[1] else { panic!("delivered to a full disk") };
        assert_eq!(reason.to_string(), "cannot write `/dev/full`: No space left on device (os error 28)");
    }

    #[test]
    fn a_dead_letter_file_that_cannot_be_opened_is_named() {
        let failure = DeadLetterFile::open(Path::new("/nowhere/letters")).unwrap_err();
        assert_eq!(failure.to_string(), "cannot write dead letters to `/nowhere/letters`: the folder `/nowhere` does not exist");
    }
}
