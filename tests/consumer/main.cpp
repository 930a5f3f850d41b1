// tests/consumer/main.cpp
#include <colonnade/colonnade.h>

#include <ATen/ops/ones.h>

#include <cstdio>

int main() {
  const double sum = at::ones({2, 3}).sum().item<double>();
  std::printf("colonnade %s, %g\n", colonnade::version(), sum);
  return sum == 6 ? 0 : 1;
}
