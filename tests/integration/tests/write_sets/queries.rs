//! Copies of query results: as many bytes as a result has, and not the gaps between them.

use crate::missing;
use crate::rig::{Counters, Rig, counted};
use ash::vk;
use lockstep_harness::{Batch, Fence, validation};

type Flags = vk::QueryResultFlags;

const WAIT: Flags = Flags::WAIT;
const WIDE: Flags = Flags::from_raw(Flags::WAIT.as_raw() | Flags::TYPE_64.as_raw());
const AVAILABILITY: Flags = Flags::WITH_AVAILABILITY;

/// Makes three queries and uses them.
fn pool(rig: &Rig, kind: vk::QueryType, statistics: vk::QueryPipelineStatisticFlags) -> vk::QueryPool {
    let info =
        vk::QueryPoolCreateInfo::default().query_type(kind).query_count(3).pipeline_statistics(statistics);
    let pool = unsafe { rig.raw().create_query_pool(&info, None) }.expect("vkCreateQueryPool");
    rig.own(move |device| unsafe { device.destroy_query_pool(pool, None) });
    rig.run(|device, commands| unsafe {
        device.cmd_reset_query_pool(commands, pool, 0, 3);
        for query in 0..3 {
            if kind == vk::QueryType::TIMESTAMP {
                device.cmd_write_timestamp(commands, vk::PipelineStageFlags::BOTTOM_OF_PIPE, pool, query);
            } else {
                device.cmd_begin_query(commands, pool, query, vk::QueryControlFlags::empty());
                device.cmd_end_query(commands, pool, query);
            }
        }
    });
    pool
}

/// Copies the results of three queries of `numbers` numbers each to byte 16, `stride` bytes apart.
fn copy(kind: vk::QueryType, bits: u32, flags: Flags, stride: usize) -> Counters {
    counted(|rig| {
        let pool = pool(rig, kind, vk::QueryPipelineStatisticFlags::from_raw(bits));
        let to = rig.buffer(400);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_copy_query_pool_results(commands, pool, 0, 3, to.raw(), 16, stride as u64, flags);
        });
        let size = if flags.contains(Flags::TYPE_64) { 8 } else { 4 };
        let numbers = if kind == vk::QueryType::PIPELINE_STATISTICS { bits.count_ones() as usize } else { 1 };
        let told = usize::from(flags.contains(AVAILABILITY));
        let expected: Vec<Vec<u8>> = results(rig, pool, flags, (numbers + told) * size);
        let written: Vec<_> =
            expected.into_iter().enumerate().map(|(index, result)| (16 + index * stride, result)).collect();
        rig.check(&commands, &to, &written);
    })
}

/// The results as vkGetQueryPoolResults gives them.
fn results(rig: &Rig, pool: vk::QueryPool, flags: Flags, size: usize) -> Vec<Vec<u8>> {
    let mut bytes = vec![0_u8; 3 * size];
    let get = rig.raw().fp_v1_0().get_query_pool_results;
    let device = rig.raw().handle();
    let room = bytes.as_mut_ptr().cast();
    unsafe { get(device, pool, 0, 3, bytes.len(), room, size as u64, flags) }.result().expect("results");
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

#[test]
fn results_without_gaps() {
    copy(vk::QueryType::TIMESTAMP, 0, WIDE, 8).are(24, 0);
    copy(vk::QueryType::OCCLUSION, 0, WAIT, 4).are(12, 0);
}

#[test]
fn results_with_gaps() {
    copy(vk::QueryType::TIMESTAMP, 0, WIDE, 40).are(24, 0);
    copy(vk::QueryType::OCCLUSION, 0, WAIT, 12).are(12, 0);
}

#[test]
fn results_that_tell_whether_they_are_there() {
    copy(vk::QueryType::TIMESTAMP, 0, WIDE | AVAILABILITY, 16).are(48, 0);
    copy(vk::QueryType::OCCLUSION, 0, WAIT | AVAILABILITY, 20).are(24, 0);
}

#[test]
fn as_many_numbers_as_statistics() {
    if missing::feature(c"pipelineStatisticsQuery", |core, _| core.pipeline_statistics_query) {
        return;
    }
    copy(vk::QueryType::PIPELINE_STATISTICS, 0b111, WIDE, 24).are(72, 0);
    copy(vk::QueryType::PIPELINE_STATISTICS, 0b101, WAIT | AVAILABILITY, 36).are(36, 0);
}

#[test]
fn many_results_with_gaps_are_told_as_one_range() {
    let count = 17_000;
    let counters = counted(|rig| {
        let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::OCCLUSION).query_count(count);
        let pool = unsafe { rig.raw().create_query_pool(&info, None) }.expect("vkCreateQueryPool");
        rig.own(move |device| unsafe { device.destroy_query_pool(pool, None) });
        let to = rig.buffer(count as usize * 12);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_reset_query_pool(commands, pool, 0, count);
            for query in 0..count {
                device.cmd_begin_query(commands, pool, query, vk::QueryControlFlags::empty());
                device.cmd_end_query(commands, pool, query);
            }
            device.cmd_copy_query_pool_results(commands, pool, 0, count, to.raw(), 4, 12, WAIT);
        });
        let written: Vec<_> = (0..count as usize).map(|query| (4 + 12 * query, vec![0; 4])).collect();
        rig.check(&commands, &to, &written);
    });
    counters.are(0, (count as usize - 1) * 12 + 4);
}

#[test]
fn results_that_nobody_waits_for_may_be_left_out() {
    validation::ignore(
        &["UNASSIGNED-CoreValidation-DrawState-InvalidQuery"],
        "results that are not there are what this is about",
    );
    let counters = counted(|rig| {
        let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::OCCLUSION).query_count(2);
        let pool = unsafe { rig.raw().create_query_pool(&info, None) }.expect("vkCreateQueryPool");
        rig.own(move |device| unsafe { device.destroy_query_pool(pool, None) });
        let to = rig.buffer(64);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_reset_query_pool(commands, pool, 0, 2);
            device.cmd_copy_query_pool_results(commands, pool, 0, 2, to.raw(), 8, 8, Flags::TYPE_64);
        });
        let fence = Fence::new(rig.gpu());
        rig.gpu().submit(&[Batch::new().run(&commands)], Some(&fence));
        // Nothing is written here, so the processor may.
        to.bytes().fill(0, 64, 0x66);
        fence.wait();
        assert_eq!(to.bytes().read_all(), [0x66; 64]);
    });
    counters.are(0, 16);
}
