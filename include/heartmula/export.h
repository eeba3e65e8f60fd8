// What a shared libheartmula shows to its users.
#pragma once

#define HEARTMULA_API __attribute__((visibility("default")))
