use std::{fs, path::Path};

use serde_json::json;

use super::*;
use crate::{
    id::{DeliveryId, LogId},
    memory::MemoryStore,
    phase::{PhaseName, RemotePost},
    store::{AdminStore as _, Epoch, ErrorPatch, LeaseAfter, LogEntry},
};

fn write(text: &str) -> PhaseWrite {
    PhaseWrite {
        delivery: DeliveryId::new(),
        epoch: Epoch(3),
        phase: PhaseName::Published,
        checkpoint: None,
        remote: Some(RemotePost::new("1", "https://network.example/1")),
        part: None,
        attempt: 1,
        crashes: 0,
        wake_at: None,
        due_at: None,
        committing_since: None,
        error: ErrorPatch::Clear,
        lease: LeaseAfter::Release,
        log: LogEntry {
            id: LogId::new(),
            event: "published".to_owned(),
            success: Some(true),
            response: json!({ "said": text }),
            at: "2026-11-22T10:00:00.123456789Z".parse().unwrap(),
        },
    }
}

fn doubt() -> Doubt {
    Doubt { before: PhaseName::Committing, since: Some("2026-11-22T09:59:59.5Z".parse().unwrap()) }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    entries.unwrap_or_default().into_iter().filter(|path| path.extension().is_some_and(|own| own == ending)).collect()
}

fn now() -> Timestamp {
    "2026-11-22T10:01:00Z".parse().unwrap()
}

#[test]
fn a_record_comes_back_as_it_was_kept_and_not_if_a_byte_differs() {
    let record = Record::outcome(&write("line\nbreak, \u{1F980} and \0"), doubt());
    let line = record.to_line();
    assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
    let line = line.trim_end_matches('\n');
    assert_eq!(Record::from_line(line.as_bytes()), Some(record));
    for at in 0..line.len() {
        let mut bytes = line.as_bytes().to_vec();
        bytes[at] ^= 1;
        assert_eq!(Record::from_line(&bytes), None, "byte {at}");
        assert_eq!(Record::from_line(&line.as_bytes()[..at]), None, "cut at {at}");
    }
}

#[tokio::test]
async fn what_is_kept_is_on_disk_once_and_gone_when_the_store_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let spill = Spill::in_folder(folder.path().join("made/when/needed"));
    let (first, second) = (write("first"), write("second"));
    assert!(!spill.has(&first));
    assert!(spill.keep_outcome(&first, doubt()).await);
    assert!(spill.keep_outcome(&first, doubt()).await, "a second time changes nothing");
    assert!(spill.keep_outcome(&second, doubt()).await);
    assert!(spill.has(&first) && spill.kept() == 2);
    let file = files(&spill.folder, "outcomes").remove(0);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
    spill.done([Key::Outcome(first.log.id)]).await;
    assert_eq!(spill.kept(), 1);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2, "a replay of the first is harmless");
    spill.done([Key::Outcome(second.log.id)]).await;
    assert_eq!((spill.kept(), fs::metadata(&file).unwrap().len()), (0, 0));
    drop(spill);
    assert!(!file.exists(), "an orderly end leaves nothing behind");
}

#[tokio::test]
async fn a_living_process_keeps_its_file_and_a_dead_ones_is_adopted_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let living = Spill::in_folder(folder.path().into());
    assert!(living.keep_outcome(&write("of the living"), doubt()).await);
    let other = Spill::in_folder(folder.path().into());
    assert_eq!(other.recover(&store, now()).await.unwrap(), Recovered::default());
    assert_eq!(files(folder.path(), "outcomes").len(), 1);
    drop(living);
    // The store knows no such delivery: nothing to tell it, and nothing to keep.
    let obsolete = Recovered { obsolete: 1, ..Recovered::default() };
    assert_eq!(other.recover(&store, now()).await.unwrap(), obsolete);
    assert_eq!(files(folder.path(), "outcomes").len(), 0);
    assert_eq!(other.recover(&store, now()).await.unwrap(), Recovered::default(), "once");
}

#[tokio::test]
async fn a_torn_end_is_nothing_and_an_unreadable_line_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let (first, last) =
        (Record::outcome(&write("1"), doubt()).to_line(), Record::outcome(&write("2"), doubt()).to_line());
    let text = format!("{first}not one of ours\n\n{last}{}", &first[..first.len() / 2]);
    fs::write(folder.path().join("1-dead.outcomes"), &text).unwrap();
    let spill = Spill::in_folder(folder.path().into());
    let expected = Recovered { obsolete: 2, put_aside: 1, ..Recovered::default() };
    assert_eq!(spill.recover(&store, now()).await.unwrap(), expected);
    assert!(files(folder.path(), "outcomes").is_empty());
    let aside = fs::read_to_string(folder.path().join("unreadable-1-dead.txt")).unwrap();
    assert!(aside.contains("not one of ours\n") && aside.contains(&first[..first.len() / 2]), "{aside}");
}

#[tokio::test]
async fn without_a_folder_nothing_is_kept() {
    let spill = Spill::default();
    assert!(!spill.keep_outcome(&write("gone"), doubt()).await);
    assert_eq!(spill.kept(), 0);
    let store = MemoryStore::new();
    store.check().await.unwrap();
    assert_eq!(spill.recover(&store, now()).await.unwrap(), Recovered::default());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_no_promise() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    fs::write(&file, b"").unwrap();
    let spill = Spill::in_folder(file.join("no folder"));
    let write = write("nowhere to go");
    assert!(!spill.keep_outcome(&write, doubt()).await);
    assert!(!spill.has(&write) && spill.kept() == 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_keeps_nothing_else_from_being_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    fs::create_dir(folder.path().join("0-folder.outcomes")).unwrap();
    fs::write(folder.path().join("1-dead.outcomes"), Record::outcome(&write("1"), doubt()).to_line()).unwrap();
    let spill = Spill::in_folder(folder.path().into());
    let expected = Recovered { obsolete: 1, ..Recovered::default() };
    assert_eq!(spill.recover(&store, now()).await.unwrap(), expected);
    assert!(!folder.path().join("1-dead.outcomes").exists());
    let no_folder = folder.path().join("a file");
    fs::write(&no_folder, b"").unwrap();
    assert_eq!(Spill::in_folder(no_folder).recover(&store, now()).await.unwrap(), Recovered::default());
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_what_is_kept_or_put_aside() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("outer/inner");
    let spill = Spill::in_folder(made.clone());
    assert!(spill.keep_outcome(&write("1"), doubt()).await);
    assert_eq!((mode(&made), mode(&files(&made, "outcomes")[0])), (0o700, 0o600));
    fs::write(made.join("1-dead.outcomes"), "not one of ours\n").unwrap();
    spill.recover(&MemoryStore::new(), now()).await.unwrap();
    assert_eq!(mode(&made.join("unreadable-1-dead.txt")), 0o600);
}

#[tokio::test]
async fn a_slow_write_goes_on_while_the_disk_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let spill = Spill::in_folder(folder.path().into());
    let (own, clock) = (spill.own.clone().unwrap(), crate::time::ManualClock::at(now()));
    let (hang, hanging) = std::sync::mpsc::channel::<()>();
    let (hangs, disk_hangs) = tokio::sync::oneshot::channel();
    let disk = std::thread::spawn(move || {
        let _own = own.lock().unwrap();
        hangs.send(()).unwrap();
        let _ = hanging.recv();
    });
    disk_hangs.await.unwrap();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let (wrote, written) = tokio::sync::oneshot::channel();
    let attending = {
        let (store, clock): (Arc<dyn Store>, Arc<dyn Clock>) = (Arc::new(MemoryStore::new()), Arc::new(clock.clone()));
        tokio::spawn(async move {
            let writing = async {
                answered.await.unwrap();
                wrote.send(()).unwrap();
                Ok(vec![Held::Yes])
            };
            let batch = [write("slow")];
            let ending = CancellationToken::new();
            let outcome = spill.attend(&store, &clock, &ending, (&batch, &[Some(doubt())]), writing).await;
            (outcome, spill.kept())
        })
    };
    for _ in 0..3 {
        tokio::task::yield_now().await;
        clock.advance(SLOW);
    }
    tokio::task::yield_now().await;
    answer.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("the write goes on").unwrap();
    drop(hang);
    let (outcome, kept) = attending.await.unwrap();
    assert_eq!((outcome.unwrap(), kept), (vec![Held::Yes], 0));
    disk.join().unwrap();
}
