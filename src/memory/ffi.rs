//! The few calls to the C library that have no safe form: where a thread's stack is, what glibc's
//! allocator holds, and how that allocator is set up.
#![expect(unsafe_code, reason = "the C library has no safe form of these calls")]

use std::{mem::MaybeUninit, ops::Range, ptr};

/// The addresses of the stack of the thread that calls this, with its descriptor and thread-local
/// variables at the upper end. Not for the main thread, of which it is only a guess.
pub(super) fn stack_of_this_thread() -> Option<Range<usize>> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the thread is the calling one and so exists; `attributes` has room for the value.
    let failed = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if failed != 0 {
        return None;
    }
    let (mut low, mut bytes) = (ptr::null_mut(), 0);
    // SAFETY: `attributes` was filled in by the call before, which succeeded.
    let failed = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut bytes) };
    // SAFETY: the same, and it is not used after this.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    let start = low as usize;
    (failed == 0).then(|| start..start.saturating_add(bytes))
}

/// Gives back to the system what of a stack is below the caller's own frame. `stack` is that of the thread that
/// calls this.
#[inline(never)]
pub(super) fn release_stack_below(stack: &Range<usize>) {
    /// What this function and the call that it makes have below the variable whose address is taken.
    const OWN_BYTES: usize = 1 << 10;
    let own = 0u8;
    let own = ptr::addr_of!(own) as usize;
    let page = rustix::param::page_size();
    let end = own.saturating_sub(OWN_BYTES) / page * page;
    // Not of this thread, which would be somebody else's frames.
    if !stack.contains(&own) || end <= stack.start || !stack.start.is_multiple_of(page) {
        return;
    }
    let start = ptr::without_provenance_mut(stack.start);
    // SAFETY: the range lies in the stack of this thread and below every frame that is live, so nobody reads what
    // is lost; when it is needed again there are pages of zeros.
    unsafe { libc::madvise(start, end - stack.start, libc::MADV_DONTNEED) };
}

/// What glibc's allocator holds, in bytes.
#[cfg(target_env = "gnu")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Glibc {
    /// Of all heaps: what was given to the program and not given back.
    pub(super) in_use: usize,
    /// Of all heaps: what is free.
    pub(super) free: usize,
    /// Blocks that have a mapping of their own.
    pub(super) mapped: usize,
}

/// What glibc's allocator holds. It walks the free blocks of each heap, which is locked meanwhile.
#[cfg(target_env = "gnu")]
pub(super) fn glibc() -> Glibc {
    // SAFETY: it takes nothing, and its locks make it safe to call from any thread.
    let info = unsafe { libc::mallinfo2() };
    Glibc {
        in_use: info.uordblks,
        free: info.fordblks,
        mapped: info.hblkhd,
    }
}

/// Gives the pages that lie free in glibc's heaps back to the system. Each heap is locked meanwhile.
#[cfg(target_env = "gnu")]
pub(super) fn trim_glibc() {
    // SAFETY: it takes a number and locks what it changes; what is in use is left alone.
    unsafe { libc::malloc_trim(0) };
}

/// Sets a parameter of glibc's allocator; whether it was taken.
#[cfg(target_env = "gnu")]
pub(super) fn set_glibc(parameter: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: it takes two numbers, refuses those that make no sense, and locks what it changes.
    unsafe { libc::mallopt(parameter, value) == 1 }
}
