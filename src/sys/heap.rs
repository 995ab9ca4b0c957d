//! Memory that the allocator keeps.

/// Gives free memory of the heap back to the system, where the allocator does not do so by itself (malloc_trim(3)).
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "neither std nor rustix offers it")]
    // SAFETY: the call takes no pointers, and may be made at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
