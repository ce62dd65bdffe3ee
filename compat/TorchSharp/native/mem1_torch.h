// C ABI between the managed TorchSharp subset and libtorch.
//
// Invariants:
//  - No C++ exception leaves a function: it is caught, its text kept per thread (m1_last_error) and a failure value returned.
//  - A tensor handle is an owned reference to a TensorImpl; whoever receives one releases it with m1_release. Null means "undefined".
//  - Arguments are borrowed: the caller keeps the tensors, arrays and strings alive until the call returns.
//  - The layout of m1_value and m1_meta is mirrored in Interop/Arg.cs and Interop/NativeApi.cs.
#pragma once

#include <cstddef>
#include <cstdint>

#define M1_API extern "C" __attribute__((visibility("default")))

enum m1_tag : int32_t {
    M1_NONE = 0,
    M1_TENSOR = 1,           // p: handle, null = None
    M1_INT = 2,              // i; also dtype, layout and memory format, which the dispatcher passes as integers
    M1_DOUBLE = 3,           // d
    M1_BOOL = 4,             // i != 0
    M1_INTS = 5,             // p: const int64_t*, count
    M1_TENSORS = 6,          // p: handle array, count
    M1_OPTIONAL_TENSORS = 7, // p: handle array, count; null entries are None
    M1_DEVICE = 8,           // count: device type, i: index
    M1_GENERATOR = 9,        // p: generator handle
    M1_STRING = 10,          // p: UTF-8, count: bytes
};

struct m1_value {
    int32_t tag;
    int32_t count;
    union {
        int64_t i;
        double d;
        const void* p;
    };
};

struct m1_meta {
    const int64_t* sizes;
    const int64_t* strides;
    int64_t numel;
    int64_t storage_offset;
    int32_t dim;
    int32_t dtype;
    int32_t device_type;
    int32_t device_index;
    int32_t element_size;
    int32_t flags; // 1 contiguous, 2 requires_grad, 4 leaf, 8 sparse, 16 inference tensor
};

struct m1_memory {
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t cached_bytes;
    int64_t live_blocks;
    int64_t total_allocations;
};

// Installs the caching allocator as libtorch's CPU allocator. Must run before the first tensor is made.
void m1_install_allocator();

// Keeps the text of a failure for m1_last_error on this thread.
void m1_set_error(const char* text);
