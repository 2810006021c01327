//! Runs SQL through a pool of eight connections with the hook, as the app does with sqlx.
//!
//! `with-sqlx DATABASE` runs each line of its input on the next connection and says `ok`; `with-sqlx DATABASE COUNT SQL` runs
//! `SQL` so many times, all connections at once. At the end it says how many descriptors it had open before the pool was
//! there, and how many behind it.

use std::error::Error;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

const CONNECTIONS: u32 = 8;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let before = descriptors()?;
        match arguments.as_slice() {
            [database] => line_by_line(&pool(database).await?).await?,
            [database, count, sql] => at_once(&pool(database).await?, count.parse()?, sql).await?,
            _ => return Err("with-sqlx DATABASE [COUNT SQL]".into()),
        }
        println!("descriptors: {before} before, {} behind", descriptors()?);
        Ok(())
    })
}

async fn pool(database: &str) -> Fallible<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .min_connections(CONNECTIONS)
        // What an app adds.
        .after_connect(|connection, _| {
            Box::pin(async move {
                let mut handle = connection.lock_handle().await?;
                // SAFETY: open and locked, so no hook of it runs.
                let installed = unsafe { waveflow_sync_hook::install(handle.as_raw_handle().as_ptr().cast()) };
                installed.map_err(|error| sqlx::Error::Configuration(error.into()))
            })
        })
        .connect_with(options)
        .await?;
    // All of them, not as many as are needed at a time.
    let mut all = Vec::new();
    for _ in 0..CONNECTIONS {
        all.push(pool.acquire().await?);
    }
    Ok(pool)
}

async fn line_by_line(pool: &SqlitePool) -> Fallible<()> {
    for line in stdin().lock().lines() {
        let mut connection = pool.acquire().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(line?)).execute(&mut *connection).await?;
        drop(connection);
        let mut out = stdout().lock();
        writeln!(out, "ok")?;
        out.flush()?;
    }
    pool.close().await;
    Ok(())
}

async fn at_once(pool: &SqlitePool, count: i64, sql: &str) -> Fallible<()> {
    let left = Arc::new(AtomicI64::new(count));
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (pool, left, sql) = (pool.clone(), Arc::clone(&left), sql.to_owned());
            tokio::spawn(async move {
                let mut connection = pool.acquire().await?;
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(&mut *connection).await?;
                }
                Ok::<(), sqlx::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    pool.close().await;
    Ok(())
}

fn descriptors() -> Fallible<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}
