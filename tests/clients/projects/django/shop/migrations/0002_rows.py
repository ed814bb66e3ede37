from uuid import UUID

from django.db import migrations


def write(apps, editor):
    customer, product = apps.get_model("shop", "Customer"), apps.get_model("shop", "Product")
    label, purchase = apps.get_model("shop", "Label"), apps.get_model("shop", "Purchase")
    ann = customer.objects.create(email="ann@example.com", first="Ann", last="Lee")
    customer.objects.bulk_create([customer(email=f"{n}@example.org", first=f"f{n}", last="x") for n in range(50)])
    chair = product.objects.create(sku=UUID(int=77), title="Chair")
    chair.labels.add(label.objects.create(text="wood"), label.objects.create(text="oak"))
    purchase.objects.create(customer=ann, product=chair, number=1)


def remove(apps, editor):
    for name in ("Purchase", "Product", "Label", "Customer"):
        apps.get_model("shop", name).objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(write, remove)]
