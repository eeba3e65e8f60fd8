#include "emulated/stream.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "emulated/device.h"

using heartmula::cuda::emulated::Nodes;
using heartmula::cuda::emulated::Queue;

struct CUstream_st {
  std::shared_ptr<Queue> queue = std::make_shared<Queue>();
  std::vector<Queue*> joined;  // other streams that are captured with it
};

struct CUevent_st {
  std::shared_ptr<Queue> queue;
  uint64_t place = 0;
  std::shared_ptr<std::chrono::steady_clock::time_point> time =
      std::make_shared<std::chrono::steady_clock::time_point>();
  std::shared_ptr<Nodes> capture;  // in which it was recorded
  CUstream_st* stream = nullptr;
};

struct CUgraph_st {
  std::shared_ptr<Nodes> nodes;
};

struct CUgraphExec_st {
  std::shared_ptr<const Nodes> nodes;
};

namespace heartmula::cuda::emulated {
namespace {

constexpr uint64_t kMostWaiting = 4096;

std::mutex streams_mutex;
std::vector<std::shared_ptr<Queue>> streams;
std::shared_ptr<Queue> default_queue = std::make_shared<Queue>();
thread_local int captures_of_thread = 0;

std::shared_ptr<Queue> shared_queue(cudaStream_t stream) {
  return stream ? stream->queue : default_queue;
}

bool blocking() {
  static const char* const value = std::getenv("CUDA_LAUNCH_BLOCKING");
  return value && std::string_view(value) == "1";
}

}  // namespace

cudaError_t Queue::add(Work work) {
  if (capture_) {
    capture_->work.push_back(std::move(work));
    return cudaSuccess;
  }
  {
    const std::lock_guard lock(adding_);
    work_.push_back(std::move(work));
    ++added_;
  }
  if (blocking()) {
    run_all();
  } else if (added_ > kMostWaiting) {
    run_to(added_ - kMostWaiting);
  }
  return cudaSuccess;
}

void Queue::run_to(uint64_t place) {
  if (done_ >= place) return;  // also where work of this queue waits for earlier work of it
  const std::lock_guard running(running_);
  while (done_ < place) {
    Work work;
    {
      const std::lock_guard lock(adding_);
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
    ++done_;
  }
}

Queue& queue_of(cudaStream_t stream) {
  return *shared_queue(stream);
}

void run_everything() {
  std::vector<std::shared_ptr<Queue>> all;
  {
    const std::lock_guard lock(streams_mutex);
    all = streams;
  }
  for (const auto& queue : all) queue->run_all();
  default_queue->run_all();
}

bool forbids_waiting() {
  return captures_of_thread > 0;
}

cudaError_t add_work(cudaStream_t stream, Work work) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (stream) return stream->queue->add(std::move(work));
  if (forbids_waiting()) return remember(cudaErrorStreamCaptureUnsupported);
  run_everything();
  default_queue->add(std::move(work));
  default_queue->run_all();
  return cudaSuccess;
}

cudaError_t launch(cudaStream_t stream, Kernel kernel) {
  if (const cudaError_t status = count_launch(); status != cudaSuccess) return status;
  const dim3& threads = kernel.threads;
  const uint64_t count = uint64_t{threads.x} * threads.y * threads.z;
  if (count == 0 || count > kMostThreads || threads.z > 64 || kernel.blocks.y > 65535 || kernel.blocks.z > 65535 ||
      kernel.blocks.x > 0x7FFFFFFFU || kernel.shared_bytes > most_shared_bytes()) {
    return remember(cudaErrorInvalidConfiguration);
  }
  return add_work(stream, [kernel = std::make_shared<const Kernel>(std::move(kernel))] { run_kernel(*kernel); });
}

}  // namespace heartmula::cuda::emulated

using namespace heartmula::cuda::emulated;

cudaError_t cudaDeviceSynchronize() {
  if (forbids_waiting()) return remember(cudaErrorStreamCaptureUnsupported);
  run_everything();
  return device_status();
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return device_status();
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned /*flags*/, int /*priority*/) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  *stream = new CUstream_st;
  const std::lock_guard lock(streams_mutex);
  streams.push_back((*stream)->queue);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!stream) return remember(cudaErrorInvalidResourceHandle);
  stream->queue->run_all();
  {
    const std::lock_guard lock(streams_mutex);
    std::erase(streams, stream->queue);
  }
  delete stream;
  return device_status();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (queue_of(stream).capturing()) return remember(cudaErrorStreamCaptureUnsupported);
  if (stream) {
    stream->queue->run_all();
  } else {
    run_everything();
  }
  return device_status();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return cudaStreamSynchronize(stream);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* argument) {
  return add_work(stream, [=] { function(argument); });
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return device_status();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto time = std::make_shared<std::chrono::steady_clock::time_point>();
  const cudaError_t status = add_work(stream, [time] { *time = std::chrono::steady_clock::now(); });
  if (status != cudaSuccess) return status;
  event->time = time;
  event->queue = shared_queue(stream);
  event->place = event->queue->added();
  event->capture = event->queue->capture();
  event->stream = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  if (!event->queue) return device_status();  // never recorded
  if (event->capture) {
    if (stream->queue->capturing()) return device_status();  // of the same graph, whose work is done in order
    stream->queue->capture_to(event->capture);
    event->stream->joined.push_back(stream->queue.get());
    return device_status();
  }
  if (queue_of(stream).capturing()) return remember(cudaErrorStreamCaptureUnsupported);
  return add_work(stream, [queue = event->queue, place = event->place] { queue->run_to(place); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->capture) return remember(cudaErrorStreamCaptureUnsupported);
  if (event->queue) event->queue->run_to(event->place);
  return device_status();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->queue || !end->queue) return remember(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *begin->time).count();
  return device_status();
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (!stream || stream->queue->capturing()) return remember(cudaErrorStreamCaptureUnsupported);
  stream->queue->capture_to(std::make_shared<Nodes>());
  if (mode != cudaStreamCaptureModeRelaxed) ++captures_of_thread;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!stream || !stream->queue->capturing()) return remember(cudaErrorInvalidValue);
  captures_of_thread = std::max(0, captures_of_thread - 1);
  *graph = new CUgraph_st{stream->queue->capture()};
  stream->queue->capture_to(nullptr);
  for (Queue* queue : stream->joined) queue->capture_to(nullptr);
  stream->joined.clear();
  return device_status();
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = queue_of(stream).capturing() ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return device_status();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* program, cudaGraph_t graph, unsigned long long /*flags*/) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  *program = new CUgraphExec_st{std::make_shared<const Nodes>(*graph->nodes)};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t /*program*/, cudaStream_t /*stream*/) {
  return device_status();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t program, cudaStream_t stream) {
  if (const cudaError_t status = count_launch(); status != cudaSuccess) return status;
  return add_work(stream, [nodes = program->nodes] {
    for (const Work& work : nodes->work) work();
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return device_status();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t program) {
  delete program;
  return device_status();
}
