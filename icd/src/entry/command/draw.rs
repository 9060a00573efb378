//! Draws, dispatches, rays (specification chapters "Drawing Commands", "Dispatching Commands", "Ray
//! Tracing"): what is bound meets shaders. Builds and copies of acceleration structures name their targets by
//! address or handle: they may write anything.

#![allow(unsafe_code, reason = "entry points")]

use ash::vk;
use vk::PipelineBindPoint as Point;

use super::commands;

commands! {
    /// `vkCmdDraw`
    fn cmd_draw(vertices: u32, instances: u32, first_vertex: u32, first_instance: u32) as draw |recording|
        recording.run(Point::GRAPHICS);

    /// `vkCmdDrawIndexed`
    fn cmd_draw_indexed(
        indices: u32,
        instances: u32,
        first_index: u32,
        vertex_offset: i32,
        first_instance: u32,
    ) as draw_indexed |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawIndirect`
    fn cmd_draw_indirect(buffer: vk::Buffer, offset: u64, count: u32, stride: u32) as draw_indirect |recording|
        recording.run(Point::GRAPHICS);

    /// `vkCmdDrawIndexedIndirect`
    fn cmd_draw_indexed_indirect(buffer: vk::Buffer, offset: u64, count: u32, stride: u32)
        as draw_indexed_indirect |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawIndirectCount`
    fn cmd_draw_indirect_count(
        buffer: vk::Buffer,
        offset: u64,
        count_buffer: vk::Buffer,
        count_offset: u64,
        most: u32,
        stride: u32,
    ) as draw_indirect_count |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawIndexedIndirectCount`
    fn cmd_draw_indexed_indirect_count(
        buffer: vk::Buffer,
        offset: u64,
        count_buffer: vk::Buffer,
        count_offset: u64,
        most: u32,
        stride: u32,
    ) as draw_indexed_indirect_count |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawIndirectByteCountEXT`
    fn cmd_draw_indirect_byte_count(
        instances: u32,
        first_instance: u32,
        counter: vk::Buffer,
        counter_offset: u64,
        counter_start: u32,
        stride: u32,
    ) as draw_indirect_byte_count |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawMultiEXT`
    fn cmd_draw_multi(
        count: u32,
        draws: *const vk::MultiDrawInfoEXT,
        instances: u32,
        first_instance: u32,
        stride: u32,
    ) as draw_multi |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawMultiIndexedEXT`
    fn cmd_draw_multi_indexed(
        count: u32,
        draws: *const vk::MultiDrawIndexedInfoEXT,
        instances: u32,
        first_instance: u32,
        stride: u32,
        vertex_offset: *const i32,
    ) as draw_multi_indexed |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawMeshTasksEXT`
    fn cmd_draw_mesh_tasks(x: u32, y: u32, z: u32) as draw_mesh_tasks |recording|
        recording.run(Point::GRAPHICS);

    /// `vkCmdDrawMeshTasksIndirectEXT`
    fn cmd_draw_mesh_tasks_indirect(buffer: vk::Buffer, offset: u64, count: u32, stride: u32)
        as draw_mesh_tasks_indirect |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDrawMeshTasksIndirectCountEXT`
    fn cmd_draw_mesh_tasks_indirect_count(
        buffer: vk::Buffer,
        offset: u64,
        count_buffer: vk::Buffer,
        count_offset: u64,
        most: u32,
        stride: u32,
    ) as draw_mesh_tasks_indirect_count |recording| recording.run(Point::GRAPHICS);

    /// `vkCmdDispatch`
    fn cmd_dispatch(x: u32, y: u32, z: u32) as dispatch |recording| recording.run(Point::COMPUTE);

    /// `vkCmdDispatchIndirect`
    fn cmd_dispatch_indirect(buffer: vk::Buffer, offset: u64) as dispatch_indirect |recording|
        recording.run(Point::COMPUTE);

    /// `vkCmdDispatchBase`
    fn cmd_dispatch_base(base_x: u32, base_y: u32, base_z: u32, x: u32, y: u32, z: u32)
        as dispatch_base |recording| recording.run(Point::COMPUTE);

    /// `vkCmdTraceRaysKHR`
    fn cmd_trace_rays(
        raygen: *const vk::StridedDeviceAddressRegionKHR,
        miss: *const vk::StridedDeviceAddressRegionKHR,
        hit: *const vk::StridedDeviceAddressRegionKHR,
        callable: *const vk::StridedDeviceAddressRegionKHR,
        width: u32,
        height: u32,
        depth: u32,
    ) as trace_rays |recording| recording.run(Point::RAY_TRACING_KHR);

    /// `vkCmdTraceRaysIndirectKHR`
    fn cmd_trace_rays_indirect(
        raygen: *const vk::StridedDeviceAddressRegionKHR,
        miss: *const vk::StridedDeviceAddressRegionKHR,
        hit: *const vk::StridedDeviceAddressRegionKHR,
        callable: *const vk::StridedDeviceAddressRegionKHR,
        address: vk::DeviceAddress,
    ) as trace_rays_indirect |recording| recording.run(Point::RAY_TRACING_KHR);

    /// `vkCmdTraceRaysIndirect2KHR`
    fn cmd_trace_rays_indirect2(address: vk::DeviceAddress) as trace_rays_indirect2 |recording|
        recording.run(Point::RAY_TRACING_KHR);

    /// `vkCmdBuildAccelerationStructuresKHR`
    fn cmd_build_acceleration_structures(
        count: u32,
        infos: *const vk::AccelerationStructureBuildGeometryInfoKHR<'_>,
        ranges: *const *const vk::AccelerationStructureBuildRangeInfoKHR,
    ) as build_acceleration_structures |recording| recording.write_anything();

    /// `vkCmdBuildAccelerationStructuresIndirectKHR`
    fn cmd_build_acceleration_structures_indirect(
        count: u32,
        infos: *const vk::AccelerationStructureBuildGeometryInfoKHR<'_>,
        addresses: *const vk::DeviceAddress,
        strides: *const u32,
        most: *const *const u32,
    ) as build_acceleration_structures_indirect |recording| recording.write_anything();

    /// `vkCmdCopyAccelerationStructureKHR`
    fn cmd_copy_acceleration_structure(info: *const vk::CopyAccelerationStructureInfoKHR<'_>)
        as copy_acceleration_structure |recording| recording.write_anything();

    /// `vkCmdCopyAccelerationStructureToMemoryKHR`
    fn cmd_copy_acceleration_structure_to_memory(
        info: *const vk::CopyAccelerationStructureToMemoryInfoKHR<'_>,
    ) as copy_acceleration_structure_to_memory |recording| recording.write_anything();

    /// `vkCmdCopyMemoryToAccelerationStructureKHR`
    fn cmd_copy_memory_to_acceleration_structure(
        info: *const vk::CopyMemoryToAccelerationStructureInfoKHR<'_>,
    ) as copy_memory_to_acceleration_structure |recording| recording.write_anything();
}
