//! What the kernel tells of this process: `/proc/self/status`.

use std::io::Read;

use crate::addr::PAGE_SIZE;

/// Pages of this process that are pinned for long (`VmPin`): io_uring's registered buffers, RDMA. None where
/// it cannot be told.
pub fn pinned_pages() -> u64 {
    let mut text = [0; 4096];
    let read = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read(&mut text));
    parse(&String::from_utf8_lossy(&text[..read.unwrap_or(0)]))
}

fn parse(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / (PAGE_SIZE >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_where_the_kernel_tells() {
        assert_eq!(parse("VmLck:\t       0 kB\nVmPin:\t     48 kB\nVmHWM:\t 1 kB\n"), 12);
        assert_eq!(parse("Name:\tx\n"), 0);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(own.find("VmPin:").unwrap() < 3000, "behind what is read");
    }
}
