//! Files that lie: real ones of every format, with lengths, counts and kinds changed. Measuring them ends, reads no more than it may, and never
//! says something impossible.
//!
//! A short run is among all tests. A long one, with a seed of one's own:
//!
//! ```text
//! FUZZ_SECONDS=600 FUZZ_SEED=7 cargo test --release -p social-core --test media_fuzz -- --ignored --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use social_core::media::{self, BytesSource, MeasureError, MediaFacts, MediaKind, MediaSource, sample};

/// What a file may cost: a mebibyte, and 32 for a GIF, with a window more where it is looked at twice.
const MOST_BYTES: u64 = (1 << 20) + (8 << 10);
const MOST_BYTES_OF_GIF: u64 = (33 << 20) + (8 << 10);
const MOST_READS: u64 = 20_000;

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let video = || sample::Mp4::new(320, 240, 5000);
    vec![
        video().bytes(),
        video().index_last().bytes(),
        video().rotated().bytes(),
        video().silent().bytes(),
        video().total_bytes(20_000).bytes(),
        fragmented(),
        deep(),
        sample::gif(8, 8, 5),
        sample::png(40, 30),
        sample::jpeg(40, 30),
        sample::pdf(),
    ]
});

fn framed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// A video with many boxes behind its index.
fn fragmented() -> Vec<u8> {
    let fragment = [framed(b"moof", &framed(b"mfhd", &[0; 8])), framed(b"mdat", &[0; 16])].concat();
    [sample::Mp4::new(320, 240, 5000).bytes(), fragment.repeat(200)].concat()
}

/// Boxes in boxes, of the kinds that are descended into.
fn deep() -> Vec<u8> {
    let kinds = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex"];
    let nested = (0..400).fold(vec![0; 4], |inner, depth| framed(kinds[depth % kinds.len()], &inner));
    [framed(b"ftyp", b"isom\0\0\0\0isom"), framed(b"moov", &nested)].concat()
}

/// Counts what is read.
#[derive(Debug)]
struct Counted {
    bytes: BytesSource,
    read: AtomicU64,
    reads: AtomicU64,
}

#[async_trait]
impl MediaSource for Counted {
    fn size_bytes(&self) -> u64 {
        self.bytes.size_bytes()
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let piece = self.bytes.read(offset, len).await?;
        self.read.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(piece)
    }
}

/// One change of a file.
#[derive(Debug, Clone)]
enum Change {
    /// Overwrites four bytes, which may be a length or a count.
    Number(usize, u32),
    /// Overwrites eight bytes.
    Long(usize, u64),
    /// Overwrites a kind by one that means something.
    Kind(usize, usize),
    Flip(usize, u8),
    Cut(usize),
    /// Puts a part of the file somewhere else, once more.
    Repeat(usize, usize, usize),
    Remove(usize, usize),
}

const KINDS: [&[u8; 4]; 24] = [
    b"moov",
    b"mvhd",
    b"trak",
    b"tkhd",
    b"mdia",
    b"mdhd",
    b"hdlr",
    b"minf",
    b"stbl",
    b"stsd",
    b"stts",
    b"stsz",
    b"stz2",
    b"mvex",
    b"mehd",
    b"mdat",
    b"free",
    b"ftyp",
    b"vide",
    b"soun",
    b"avc1",
    b"IHDR",
    b"IDAT",
    b"\0\0\0\0",
];

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        let length = file.len().max(1);
        let mut put = |at: usize, new: &[u8]| {
            let at = at % length;
            for (old, new) in file.iter_mut().skip(at).zip(new) {
                *old = *new;
            }
        };
        match *self {
            Self::Number(at, number) => put(at, &number.to_be_bytes()),
            Self::Long(at, number) => put(at, &number.to_be_bytes()),
            Self::Kind(at, kind) => put(at, KINDS[kind % KINDS.len()]),
            Self::Flip(at, mask) => {
                if let Some(byte) = file.get_mut(at % length) {
                    *byte ^= mask;
                }
            }
            Self::Cut(at) => file.truncate(at % length),
            Self::Repeat(from, len, to) => {
                let from = from % length;
                let piece = file[from..file.len().min(from + len % 512)].to_vec();
                let to = (to % length).min(file.len());
                file.splice(to..to, piece);
            }
            Self::Remove(from, len) => {
                let from = (from % length).min(file.len());
                file.drain(from..file.len().min(from + len % 512));
            }
        }
    }
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        0_u32..64,
        Just(u32::MAX),
        Just(i32::MAX as u32),
        Just(1 << 31),
        (0_u32..32).prop_map(|bit| 1 << bit),
        any::<u32>(),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<u16>().prop_map(usize::from);
    prop_oneof![
        4 => (at.clone(), number()).prop_map(|(at, number)| Change::Number(at, number)),
        1 => (at.clone(), any::<u64>()).prop_map(|(at, number)| Change::Long(at, number)),
        2 => (at.clone(), any::<usize>()).prop_map(|(at, kind)| Change::Kind(at, kind)),
        2 => (at.clone(), any::<u8>()).prop_map(|(at, mask)| Change::Flip(at, mask)),
        1 => at.clone().prop_map(Change::Cut),
        1 => (at.clone(), at.clone(), at.clone()).prop_map(|(from, len, to)| Change::Repeat(from, len, to)),
        1 => (at.clone(), at).prop_map(|(from, len)| Change::Remove(from, len)),
    ]
}

fn lies() -> impl Strategy<Value = (usize, Vec<Change>)> {
    (0..SAMPLES.len(), prop::collection::vec(change(), 1..8))
}

fn file(which: usize, changes: &[Change]) -> Vec<u8> {
    let mut file = SAMPLES[which].clone();
    changes.iter().for_each(|change| change.apply(&mut file));
    file
}

/// Measures a file and checks what must hold whatever is in it.
fn look(file: Vec<u8>) -> Result<Option<MediaFacts>, TestCaseError> {
    let length = file.len() as u64;
    let gif = file.starts_with(b"GIF8");
    let source = Counted { bytes: BytesSource::new(file), read: AtomicU64::new(0), reads: AtomicU64::new(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let measured = runtime.block_on(media::measure(&source));
    let (read, reads) = (source.read.into_inner(), source.reads.into_inner());
    prop_assert!(read <= if gif { MOST_BYTES_OF_GIF } else { MOST_BYTES }, "{read} bytes were read");
    prop_assert!(reads <= MOST_READS, "{reads} reads");
    let facts = match measured {
        Ok(facts) => facts,
        Err(MeasureError::Unreadable(error)) => {
            return Err(TestCaseError::fail(format!("not the source's fault: {error}")));
        }
        Err(_) => return Ok(None),
    };
    prop_assert_eq!(facts.size_bytes, length);
    prop_assert!(facts.width != Some(0) && facts.height != Some(0));
    if matches!(facts.kind, MediaKind::Image | MediaKind::Gif) {
        let pixels = facts.width.map(u64::from).zip(facts.height.map(u64::from)).map(|(width, height)| width * height);
        prop_assert!(pixels.is_none_or(|pixels| pixels <= 100_000_000), "{:?} pixels", pixels);
    }
    for codec in [&facts.video_codec, &facts.audio_codec].into_iter().flatten() {
        prop_assert!(
            codec.len() <= 64 && codec.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '),
            "{codec:?}"
        );
    }
    Ok(Some(facts))
}

#[test]
fn the_samples_themselves_are_good_but_for_the_deep_one() {
    for (which, sample) in SAMPLES.iter().enumerate() {
        let facts = look(sample.clone()).unwrap();
        assert_eq!(facts.is_some(), which != 6, "sample {which}");
    }
}

proptest! {
    #![proptest_config(Config { cases: 4000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn files_that_lie_are_measured_or_refused((which, changes) in lies()) {
        look(file(which, &changes))?;
    }
}

#[test]
#[ignore = "runs for FUZZ_SECONDS (60)"]
fn files_that_lie_for_a_long_time() {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|raw| raw.parse().ok()).unwrap_or(usual);
    let (seconds, seed) = (number("FUZZ_SECONDS", 60), number("FUZZ_SEED", 1));
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut cases, mut good) = (0_u64, 0_u64);
    for round in 0_u64.. {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&round.to_le_bytes());
        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let measured = AtomicU64::new(0);
        let ran = runner.run(&lies(), |(which, changes)| {
            measured.fetch_add(u64::from(look(file(which, &changes))?.is_some()), Ordering::Relaxed);
            Ok(())
        });
        if let Err(error) = ran {
            panic!("seed {seed}, round {round}: {error}");
        }
        cases += 1000;
        good += measured.into_inner();
        if Instant::now() >= until {
            break;
        }
    }
    println!("{cases} files with seed {seed}, of which {good} were taken for media");
}
