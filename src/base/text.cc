#include "src/base/text.h"
