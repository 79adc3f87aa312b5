//! How fast a large video gets to a network, and how little memory that takes.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use serde_json::{Value, json};
use social_benches::{
    Failure, become_helper_if_asked,
    database::{Database, DatabaseOptions},
    fill,
    process::Process,
    run,
    target::Target,
};
use social_core::{
    Draft, PhaseName, Scheduler as _,
    library::DirectoryLibrary,
    media::{
        MediaSource as _,
        sample::{Mp4, PaddedSource},
    },
    vault::KeyRing,
};
use tempfile::TempDir;

const MB: f64 = 1_000_000.0;
/// How much of the video is looked at when it is written: behind its beginning there is nothing but zeros.
const PIECE: usize = 1 << 20;

/// One video of B bytes is taken in (measured, hashed, copied into the media folder) and then published on X: chunked upload to a sink in
/// another process, and the post. Prints one line of JSON last.
///
/// `rss_growth_mb` is the highest resident memory while it was taken in and published, minus that before.
#[derive(Debug, Parser)]
#[command(name = "upload", version)]
struct Options {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Length of the video.
    #[arg(long, default_value_t = 536_870_912)]
    bytes: u64,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A server that answers the upload calls of X and `POST {URL}/2/tweets`, instead of our own in another process.
    #[arg(long)]
    target: Option<String>,
}

fn main() -> ExitCode {
    become_helper_if_asked();
    let options = Options::parse();
    run(options.threads, upload(options))
}

async fn upload(options: Options) -> Result<Value, Failure> {
    let target = Target::open(options.target.clone(), 0)?;
    let database = Database::open(&options.database).await?;
    let keys = KeyRing::generate("bench")?.1;
    let folder = TempDir::new()?;
    let library = DirectoryLibrary::open(folder.path().join("media"))?;
    let social = fill::social_with_media(database.store().await?, &keys, target.url(), library)?;
    let tenant = fill::tenant(&social, 1).await?;
    // Whatever is set up once, such as connections and caches, is there before memory is looked at.
    let small = social.schedule(&tenant.user, Draft::text("warming up")).on(&tenant.accounts).send();
    small.await?;
    social.worker().tick().await?;
    let video = folder.path().join("video.mp4");
    let source = Mp4::new(1280, 720, 30_000).total_bytes(options.bytes).source();
    let size = source.size_bytes();
    write(&source, &video).await?;
    drop(source);

    eprintln!("taking {size} bytes in ...");
    let own = Process::own();
    let (before, cpu) = (own.forget_peak()?, own.cpu_seconds()?);
    let began = Instant::now();
    let draft = Draft::text("A long video").video(video);
    let scheduled = social.schedule(&tenant.user, draft).on(&tenant.accounts).send().await?;
    let (intake, intake_cpu, intake_peak) =
        (began.elapsed().as_secs_f64(), own.cpu_seconds()? - cpu, own.peak_rss_mb()?);

    eprintln!("publishing ...");
    own.forget_peak()?;
    let (cpu, began) = (own.cpu_seconds()?, Instant::now());
    let id = scheduled.deliveries.first().ok_or("the post has no delivery")?.id;
    loop {
        social.worker().tick().await?;
        let delivery = social.delivery(tenant.user, id).await?;
        match delivery.phase.name() {
            PhaseName::Published => break,
            phase if phase.is_final() => return Err(format!("the post ended as {phase}: {:?}", delivery.error).into()),
            // A network that processes the file says when to look again.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    let (seconds, cpu, peak) = (began.elapsed().as_secs_f64(), own.cpu_seconds()? - cpu, own.peak_rss_mb()?);
    let received = target.seen().await?.map(|seen| seen.media_bytes);
    if received.is_some_and(|received| received != size) {
        return Err(format!("the target received {received:?} bytes instead of {size}").into());
    }
    let mb = size as f64 / MB;
    Ok(json!({
        "bench": "upload",
        "store": database.kind().to_string(),
        "bytes": size,
        "intake_mb_per_s": mb / intake,
        "intake_cpu_s": intake_cpu,
        "intake_peak_rss_mb": intake_peak,
        "seconds": seconds,
        "mb_per_s": mb / seconds,
        "cpu_s": cpu,
        "cpu_s_per_gb": cpu * 1000.0 / mb,
        "peak_rss_mb": peak,
        "idle_rss_mb": before,
        "rss_growth_mb": peak.max(intake_peak) - before,
        "received": received,
    }))
}

/// Writes a video to a file, with a hole where there are only zeros.
async fn write(source: &PaddedSource, path: &Path) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    file.set_len(source.size_bytes())?;
    let mut offset = 0;
    while offset < source.size_bytes() {
        let piece = source.read(offset, PIECE).await?;
        if piece.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&piece)?;
        }
        offset += piece.len() as u64;
    }
    Ok(())
}
