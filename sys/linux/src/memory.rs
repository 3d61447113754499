//! The calling process's own memory.
#![allow(unsafe_code)]

/// Gives unused memory of the allocator back to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
