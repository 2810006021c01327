//! The scenarios, one file for each subject.

mod account_orders;
mod accounts;
mod accounts_daemon;
#[cfg(target_os = "linux")]
mod alarm;
mod bad_input;
mod completions;
mod conflicts;
mod corpus;
mod daemon_commands;
mod daemon_drain_now;
mod daemon_files;
mod daemon_idle;
mod daemon_latency;
mod daemon_server;
mod daemon_signals;
mod daemon_socket;
mod daemon_wake;
mod daemon_way;
mod delivery;
mod doctor;
#[cfg(target_os = "linux")]
mod drain_bar;
mod faults_clock;
#[cfg(target_os = "linux")]
mod faults_disk;
mod faults_files;
mod faults_log;
mod faults_server;
mod gates;
mod kill;
mod kill_campaign;
mod leaks;
mod man_in_the_middle;
mod manual;
mod memory;
mod messages;
#[cfg(target_os = "linux")]
mod other_users;
mod promises;
mod quarantine;
mod secrets;
#[cfg(target_os = "linux")]
mod service;
mod service_manager;
mod sigkill;
mod soak;
#[cfg(target_os = "linux")]
mod static_build;
#[cfg(target_os = "linux")]
mod status_causes;
#[cfg(target_os = "linux")]
mod status_watch;
mod strangers;
#[cfg(target_os = "linux")]
mod systemd_package;
#[cfg(target_os = "linux")]
mod systemd_sandbox;
#[cfg(target_os = "linux")]
mod systemd_service;
#[cfg(target_os = "linux")]
mod systemd_trouble;
mod tls;
mod unnoticed;
mod usage;
mod watch;
