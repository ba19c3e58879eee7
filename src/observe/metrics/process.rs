//! The resources of the process, under Prometheus's standard names for processes, from proc(5). Without `/proc`, there
//! are no values.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// USER_HZ, which is 100 on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, value: Option<f64>| match value {
            Some(value) => {
                let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(gauge)
            }
            None => Ok(()),
        };
        let stat = Stat::read();
        let bytes = |key| Some(kibibytes("/proc/self/status", key)? * 1024.0);
        gauge(
            "process_start_time_seconds",
            "Unix time when the process started.",
            stat.as_ref().and_then(Stat::started),
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            bytes("VmRSS:"),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory.",
            bytes("VmSize:"),
        )?;
        gauge(
            "process_open_fds",
            "Open file descriptors.",
            open_files().map(|count| count as f64),
        )?;
        gauge(
            "process_max_fds",
            "Largest number of open file descriptors.",
            most_open_files(),
        )?;
        gauge(
            "process_threads",
            "Threads.",
            stat.as_ref().map(|stat| stat.threads),
        )?;
        if let Some(stat) = stat {
            let counter = encoder.encode_descriptor(
                "process_cpu_seconds",
                "CPU time of all threads, in user mode and in the kernel.",
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(stat.ticks / TICKS_PER_SECOND).encode(counter)?;
        }
        Ok(())
    }
}

struct Stat {
    ticks: f64,
    threads: f64,
    /// In ticks since the machine started.
    started: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The program name is in parentheses and may contain any character.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        // The first field after the name is the third one.
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            ticks: number(14)? + number(15)?,
            threads: number(20)?,
            started: number(22)?,
        })
    }

    fn started(&self) -> Option<f64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        let booted: f64 = booted.trim().parse().ok()?;
        Some(booted + self.started / TICKS_PER_SECOND)
    }
}

fn kibibytes(file: &str, key: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn open_files() -> Option<usize> {
    // One of them is the directory that is being read.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1),
    )
}

fn most_open_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_is_skipped() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1 2 3";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!(
            (stat.ticks, stat.threads, stat.started),
            (300.0, 9.0, 12345.0)
        );
    }
}
