//! Workers in processes of their own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
};

use serde::{Deserialize, Serialize};
use social_core::Social;
use tokio::{sync::watch, task::JoinSet};

use crate::{Failure, fill, process::Process, runtime, tls::Certificate};

/// The hidden argument that makes a benchmark program such a process.
pub(crate) const MODE: &str = "__worker";

/// What such a process has to know. The master key is among it, so it travels by standard input.
#[derive(Serialize, Deserialize)]
#[expect(missing_debug_implementations, reason = "it holds the master key")]
pub struct Task {
    /// The database.
    pub database: String,
    /// The master key.
    pub keys: String,
    /// The address of the network.
    pub target: String,
    /// How many workers, with how much in flight each.
    pub workers: usize,
    /// How many deliveries one worker has in flight.
    pub in_flight: usize,
    /// Threads of its runtime.
    pub threads: usize,
}

/// Lets so many workers work until they are told to stop.
#[must_use]
pub fn work(
    social: &Social,
    workers: usize,
    in_flight: usize,
    stop: &watch::Sender<bool>,
) -> JoinSet<Result<(), social_core::Error>> {
    let mut set = JoinSet::new();
    for _ in 0..workers {
        let mut stopped = stop.subscribe();
        set.spawn(social.worker().in_flight(in_flight).run_until(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    set
}

/// Reads the task, says that it is ready, begins with the next line and stops when there will be no more.
pub(crate) fn serve() -> Result<(), Failure> {
    let mut lines = std::io::stdin().lines();
    let task: Task = serde_json::from_str(&lines.next().ok_or("no task")??)?;
    runtime(task.threads)?.block_on(async {
        let social = fill::social(social_store::open(&task.database).await?, &task.keys, &task.target)?;
        println!("ready");
        // Not before the word.
        lines.next().ok_or("nobody said begin")??;
        let (stop, _) = watch::channel(false);
        let mut workers = work(&social, task.workers, task.in_flight, &stop);
        drop(lines);
        std::thread::spawn(move || {
            let _ = std::io::stdin().lines().count();
            stop.send_replace(true);
        });
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Ok(())
    })
}

/// Processes that work for this one. Dropped, they stop by themselves.
#[derive(Debug)]
pub struct Crew(Vec<Member>);

#[derive(Debug)]
struct Member {
    child: Child,
    orders: ChildStdin,
    process: Process,
}

impl Crew {
    /// Starts so many processes and waits until each is ready. They trust the certificate besides nobody.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn hire(task: &Task, processes: usize, certificate: Option<&Certificate>) -> Result<Self, Failure> {
        let told = serde_json::to_string(task)?;
        let members = (0..processes).map(|_| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(MODE).stdin(Stdio::piped()).stdout(Stdio::piped());
            if let Some(certificate) = certificate {
                command.env("SSL_CERT_FILE", certificate.path());
            }
            let mut child = command.spawn()?;
            let mut orders = child.stdin.take().ok_or("a worker's process has no input")?;
            writeln!(orders, "{told}")?;
            let process = Process::with_id(child.id());
            Ok(Member { child, orders, process })
        });
        let mut crew = Self(members.collect::<Result<_, Failure>>()?);
        for member in &mut crew.0 {
            let mut line = String::new();
            BufReader::new(member.child.stdout.take().ok_or("a worker's process has no output")?)
                .read_line(&mut line)?;
            if line.trim() != "ready" {
                return Err("a worker's process did not become ready".into());
            }
        }
        Ok(crew)
    }

    /// Lets them begin.
    ///
    /// # Errors
    /// If one is gone.
    pub fn begin(&mut self) -> Result<(), Failure> {
        for member in &mut self.0 {
            writeln!(member.orders)?;
        }
        Ok(())
    }

    /// The processes, to be looked at.
    pub fn processes(&self) -> Vec<Process> {
        self.0.iter().map(|member| member.process.clone()).collect()
    }

    /// Tells them to stop and waits.
    ///
    /// # Errors
    /// If one did not end well.
    pub fn end(self) -> Result<(), Failure> {
        for Member { mut child, orders, .. } in self.0 {
            drop(orders);
            let status = child.wait()?;
            if !status.success() {
                return Err(format!("a worker's process ended with {status}").into());
            }
        }
        Ok(())
    }
}
