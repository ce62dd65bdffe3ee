// A caching CPU allocator for libtorch with exact live and peak byte counts.
//
// Why: glibc returns large blocks to the kernel after every training step, and the page faults of getting them back cost as much as the
// arithmetic. Freed blocks are kept here in size classes, four per power of two, so at most a quarter of a block is slack.
//
// Invariants:
//  - A block's header lies in the 64 bytes before the data, so data pointer == context pointer (libtorch's raw_allocate needs that) and
//    data is 64-byte aligned.
//  - live counts requested bytes, not rounded ones; peak is the largest live since the last reset.
//  - live + cached never exceeds 5/4 of the largest live ever seen plus 64 MiB: beyond that a freed block goes back to the system.
#include "mem1_torch.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace {

constexpr size_t kHeader = 64;             // one cache line, and the alignment vectorised kernels like
constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kSlack = size_t(64) << 20; // cached bytes always allowed, so that small programs never return memory
constexpr int kClasses = 4 * 44;           // sizes up to 2^50 bytes

struct Block {
    size_t requested;
    size_t capacity; // bytes of the whole block, header included
    int size_class;
    Block* next;
};
static_assert(sizeof(Block) <= kHeader, "the header must fit before the data");

// Smallest class whose capacity holds `bytes`: capacities are (4 + k) * 2^e, k in 0..3.
int class_of(size_t bytes) {
    size_t n = std::max<size_t>(bytes, 256);
    int e = 63 - __builtin_clzll(n);
    size_t step = size_t(1) << (e - 2);
    size_t k = (n - (size_t(1) << e) + step - 1) / step;
    return (e - 8) * 4 + static_cast<int>(k);
}

size_t capacity_of(int size_class) {
    int e = size_class / 4 + 8;
    size_t k = size_class % 4;
    return (size_t(1) << e) + k * (size_t(1) << (e - 2));
}

class Pool {
public:
    void* take(size_t bytes) {
        int wanted = class_of(bytes + kHeader);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            // A block of the next class is at most a quarter larger than wanted: better than fresh pages.
            for (int c = wanted; c < std::min(wanted + 2, kClasses); c++) {
                if (Block* b = free_[c]) {
                    free_[c] = b->next;
                    cached_ -= b->capacity;
                    return account(b, bytes);
                }
            }
        }
        Block* b = fresh(wanted);
        if (b == nullptr) {
            trim();
            b = fresh(wanted);
        }
        if (b == nullptr) {
            return nullptr;
        }
        std::lock_guard<std::mutex> lock(mutex_);
        return account(b, bytes);
    }

    void give(void* data) {
        Block* b = reinterpret_cast<Block*>(static_cast<char*>(data) - kHeader);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            live_ -= b->requested;
            live_blocks_--;
            if (live_ + cached_ + b->capacity <= high_water_ + high_water_ / 4 + kSlack) {
                b->next = free_[b->size_class];
                free_[b->size_class] = b;
                cached_ += b->capacity;
                return;
            }
        }
        give_back(b);
    }

    void trim() {
        std::lock_guard<std::mutex> lock(mutex_);
        for (Block*& head : free_) {
            while (head != nullptr) {
                Block* b = head;
                head = b->next;
                cached_ -= b->capacity;
                give_back(b);
            }
        }
    }

    void read(m1_memory* out, bool reset_peak) {
        std::lock_guard<std::mutex> lock(mutex_);
        *out = m1_memory{static_cast<int64_t>(live_), static_cast<int64_t>(peak_), static_cast<int64_t>(cached_), live_blocks_, total_};
        if (reset_peak) {
            peak_ = live_;
        }
    }

private:
    void* account(Block* b, size_t bytes) {
        b->requested = bytes;
        live_ += bytes;
        live_blocks_++;
        total_++;
        peak_ = std::max(peak_, live_);
        high_water_ = std::max(high_water_, live_);
        return reinterpret_cast<char*>(b) + kHeader;
    }

    // Large blocks come from the kernel and go back to it whole: through malloc they would leave holes that no trim returns.
    static Block* fresh(int size_class) {
        size_t capacity = (capacity_of(size_class) + kHeader - 1) / kHeader * kHeader;
        void* p = nullptr;
        if (capacity < kHugePage) {
            if (posix_memalign(&p, kHeader, capacity) != 0) {
                return nullptr;
            }
        } else {
            char* mapped = static_cast<char*>(
                mmap(nullptr, capacity + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
            if (mapped == MAP_FAILED) {
                return nullptr;
            }
            // Huge pages need alignment: map one more than needed and give back what sticks out on both sides.
            size_t before = (kHugePage - reinterpret_cast<size_t>(mapped) % kHugePage) % kHugePage;
            if (before > 0) {
                munmap(mapped, before);
            }
            munmap(mapped + before + capacity, kHugePage - before);
            p = mapped + before;
            madvise(p, capacity, MADV_HUGEPAGE); // advice only: nothing to do if the kernel declines
        }
        return new (p) Block{0, capacity, size_class, nullptr};
    }

    static void give_back(Block* b) {
        if (b->capacity < kHugePage) {
            std::free(b);
        } else {
            munmap(b, b->capacity);
        }
    }

    std::mutex mutex_;
    Block* free_[kClasses] = {};
    size_t live_ = 0, peak_ = 0, high_water_ = 0, cached_ = 0;
    int64_t live_blocks_ = 0, total_ = 0;
};

Pool& pool() {
    static Pool* p = new Pool(); // never destroyed: tensors of other threads may outlive static destruction
    return *p;
}

void release(void* data) {
    if (data != nullptr) {
        pool().give(data);
    }
}

// `allocate` is const up to libtorch 2.2 and not after, and copy_data is new there: both forms are here, whichever is virtual overrides.
class CachingAllocator final : public c10::Allocator {
public:
    c10::DataPtr allocate(size_t n) const { return make(n); }
    c10::DataPtr allocate(size_t n) { return make(n); }
    c10::DeleterFnPtr raw_deleter() const { return &release; }
    void copy_data(void* to, const void* from, size_t n) const { std::memcpy(to, from, n); }

private:
    static c10::DataPtr make(size_t n) {
        void* p = n == 0 ? nullptr : pool().take(n);
        TORCH_CHECK(n == 0 || p != nullptr, "not enough memory: the CPU allocator could not get ", n, " bytes");
        return c10::DataPtr(p, p, &release, c10::Device(c10::DeviceType::CPU));
    }
};

} // namespace

void m1_install_allocator() {
    static CachingAllocator* allocator = new CachingAllocator();
    c10::SetCPUAllocator(allocator, 100); // above every priority libtorch itself uses
}

M1_API void m1_memory_read(m1_memory* out, int32_t reset_peak) { pool().read(out, reset_peak != 0); }

M1_API void m1_memory_trim() { pool().trim(); }
