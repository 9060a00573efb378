//! The translation table manager's part of the kernel (`drivers/gpu/drm/ttm`).
//!
//! | module | kernel file |
//! |---|---|
//! | [`bo`] | `ttm_bo.c`, as far as a driver on the process's own pages needs it |
//! | [`object`] | `ttm_bo.c`, `ttm_tt.c`: objects of the soft machine |
//! | [`resv`] | `dma-resv.c`, `dma-fence.c` |
//! | [`bo_vm`] | `ttm_bo_vm.c`: what fault handlers share |

pub mod bo;
pub mod bo_vm;
pub mod object;
pub mod resv;
