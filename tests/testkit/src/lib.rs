//! Real clusters for tests and benchmarks: etcd, PostgreSQL and agents (ours, or Patroni as the peer) on free loopback
//! ports, in a directory of their own, with the verbs that faults are made of.
//!
//! ```text
//!   lab.rs     Lab: a store, some members         member.rs  one member: start, kill, freeze, its processes
//!   pods.rs    Lab as a cluster from a manifest  sandbox.rs Kubernetes for one machine, by its commands
//!   etcd.rs    the store                         config.rs  its patroni.yml
//!   writer.rs  sessions that write and log every acknowledgement      verdict.rs  who wrote when
//!   faults.rs  the faults, by name               strike/    how each is made
//!   disk.rs    a small file system for one member   container.rs  a container of the image, as processes
//!   link.rs    a network that can be made bad    processes.rs  processes of this machine
//!   plain.rs   a PostgreSQL without an agent     s3.rs      a real S3 server
//! ```
//!
//! For development only: nothing of the product depends on it.

mod config;
mod consul;
mod container;
mod disk;
mod etcd;
mod faults;
mod lab;
mod link;
mod member;
mod plain;
mod pods;
mod processes;
mod s3;
mod sandbox;
mod strike;
mod verdict;
mod writer;
mod zookeeper;

pub use config::Settings;
pub use consul::Consul;
pub use container::Container;
pub use etcd::Etcd;
pub use faults::{Fault, World};
pub use lab::{Lab, LabOptions, free_port, howdah_binary, patroni, until};
pub use link::Link;
pub use member::{Flavour, Member};
pub use plain::Plain;
pub use s3::{S3, S3_KEYS};
pub use sandbox::Sandbox;
pub use strike::strike;
pub use verdict::{Verdict, judge};
pub use writer::{Ack, Address, Kind, Writers, connect, digest, rows};
pub use zookeeper::ZooKeeper;
